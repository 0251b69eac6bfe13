"""From the arguments of a call to the inputs of a graph, which has an order and no names."""

import inspect
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from torchcompress.core.errors import CompressError
from torchcompress.core.inputs import Inputs, arguments, map_tensors, tensors_in
from torchcompress.quantization import Int8Model
from torchcompress.quantization.binding import bind_inputs


class GraphArguments:
    """How a model is called, by the example of one call.

    Args:
        model: The model.
        x: Example inputs; values in them that are no tensors are fixed.

    Raises:
        CompressError: Inputs that the model does not take.
    """

    def __init__(self, model: nn.Module, x: Inputs) -> None:
        program = model.program if isinstance(model, Int8Model) else None
        self._program = program if program is not None and program.call is None else None
        self._signature = inspect.signature(model.forward)
        args, kwargs = arguments(x)
        try:
            if self._program is not None:
                args, kwargs = tuple(bind_inputs(self._program, args, kwargs)), {}
            bound = self._signature.bind(*args, **kwargs)
        except TypeError as error:
            raise CompressError(f"does not fit: {error}", where="x") from error
        self._plain = map_tensors(_nothing, dict(bound.arguments))
        # What can only be given by name makes all names; otherwise none is needed.
        self.example: Inputs = dict(bound.arguments) if bound.kwargs else bound.args

    def __call__(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[Tensor]:
        """Returns the tensors of a call, in the order of the graph.

        Raises:
            TypeError: Arguments that the model does not take.
            ValueError: Plain values other than the example's.
        """
        if self._program is not None:
            return bind_inputs(self._program, args, kwargs)
        bound = dict(self._signature.bind(*args, **kwargs).arguments)
        if map_tensors(_nothing, bound) != self._plain:
            raise ValueError("arguments that are no tensors must be those of the example")
        return [tensor for _, tensor in tensors_in(bound)]


def _nothing(tensor: Tensor) -> None:
    return None
