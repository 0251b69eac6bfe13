"""ONNX Runtime behind the call of the model."""

from typing import Any

import torch
from torch import Tensor, nn

from torchcompress.core.errors import CompressError
from torchcompress.core.inputs import Inputs, call, map_tensors
from torchcompress.core.modules import undisturbed
from torchcompress.deploy.onnx.arguments import GraphArguments
from torchcompress.deploy.onnx.export import checked_onnx
from torchcompress.deploy.onnx.presets import find_preset

_OPSET = 21


class OnnxRuntimeModel(nn.Module):
    """A session that is called as the model is.

    Tensors go in and come out without a copy. A copy of the module opens a session of its own.

    Args:
        file: The ONNX file.
        inputs: From a call to the inputs of the file.
        outputs: What a call returns, with any other tensors.
        threads: That a call may use.
    """

    def __init__(self, file: bytes, inputs: GraphArguments, outputs: Any, threads: int) -> None:
        super().__init__()
        self._file, self._inputs, self._outputs = file, inputs, outputs
        self._threads = threads
        self._open()

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Runs the session.

        Raises:
            CompressError: Inputs that do not fit.
        """
        from torchcompress.deploy.onnx.session import run_session

        try:
            made = iter(run_session(self._session, self._inputs(args, kwargs)))
        except Exception as error:  # ONNX Runtime's errors have no common base.
            raise CompressError(
                f"the inputs do not fit: {error}",
                where="x",
                hint="only the batch may differ from the example; tensors must be on the CPU",
            ) from error
        return map_tensors(lambda _: next(made), self._outputs)

    def _open(self) -> None:
        from torchcompress.deploy.onnx.session import open_session

        self._session = open_session(self._file, self._threads)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_session": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._open()


def onnx_runtime(model: nn.Module, x: Inputs, threads: int) -> OnnxRuntimeModel:
    """Exports a model, checks the file and opens it.

    Args:
        model: An int8 or float model.
        x: Example inputs.
        threads: That a call may use.

    Raises:
        UnsupportedError: The extra is not installed, or the model cannot be exported.
        CompressError: ONNX Runtime computes something else than the model.
    """
    made, _, _ = checked_onnx(model, x, find_preset("onnxruntime"), opset=_OPSET, check=True)
    with undisturbed(model):
        outputs = map_tensors(_placeholder, call(model, x))
    inputs = GraphArguments(model, x)
    return OnnxRuntimeModel(made.SerializeToString(), inputs, outputs, threads)


def _placeholder(tensor: Tensor) -> Tensor:
    return torch.empty(0)
