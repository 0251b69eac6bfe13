"""All layers of a model in the order of its run, each on the inputs that it gets by then."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import nn

from torchcompress.core.errors import CalibrationError
from torchcompress.core.modules import eval_mode, undisturbed
from torchcompress.core.progress import progress
from torchcompress.graph.running import plain_kernels
from torchcompress.reconstruction.capture import Calibration
from torchcompress.reconstruction.layers import Layer, Seen
from torchcompress.reconstruction.paused import Paused
from torchcompress.reconstruction.statistics import Moments, collect


def walk(
    model: nn.Module,
    layers: Sequence[Layer],
    dense: nn.Module,
    twins: Sequence[Layer],
    calibration: Calibration,
    label: str,
) -> Iterator[tuple[Layer, Moments]]:
    """Yields every layer with the moments of its inputs, towards the outputs of a dense model.

    What the caller writes into a layer before it asks for the next one is what the layers after it
    get to see, and stays, in buffers too: the forward passes of all batches stop at each layer and
    go on from there, so that a walk costs one pass of each model. The activations that live at a
    layer are held for all batches and both models. A layer that one pass calls several times is
    looked at in passes of its own, and its first call then goes on with what was written.

    Args:
        model: The model whose layers change on the way.
        layers: Its layers, in the order of the run.
        dense: The model whose outputs are wanted.
        twins: Its layers, in the same order.
        calibration: The batches.
        label: What is being done, for the progress bar.

    Raises:
        CalibrationError: A batch on which a model fails or takes another path.
    """
    with ExitStack() as stack:
        stack.enter_context(undisturbed(dense))
        stack.enter_context(eval_mode(model))  # What the caller writes into buffers stays.
        stack.enter_context(plain_kernels())
        ours = _Runs(model, layers, calibration, stack, after=False)
        theirs = _Runs(dense, twins, calibration, stack, after=True)
        for layer, twin in progress(list(zip(layers, twins, strict=True)), label, unit="layer"):
            if layer.calls > 1:
                ours.reach(layer)
                theirs.reach(twin)
                yield layer, collect(model, [layer], calibration, (dense, [twin]))[layer.name]
                continue
            moments: Moments | None = None
            pairs = zip(ours.reach(layer), theirs.reach(twin), strict=True)
            for index, ((args, kwargs, _), call) in enumerate(pairs):
                wanted = twin.tensors(*call)
                seen = Seen(layer.tensors(args, kwargs, call[2]).x, wanted.y)
                layer.check(seen, index)
                for x, y in layer.rows(seen):
                    if moments is None:
                        moments = Moments.zeros(len(x), x.shape[2], y.shape[2], x.device)
                    moments.add(x, y)
            assert moments is not None
            yield layer, moments


class _Runs:
    """The forward passes of a model on all batches, stopped at one layer.

    Args:
        model: The model.
        layers: The layers at which they stop, in the order of the run.
        calibration: The batches.
        stack: Ends the passes and removes the hooks.
        after: Stop once a layer has run; by default before.
    """

    def __init__(
        self,
        model: nn.Module,
        layers: Sequence[Layer],
        calibration: Calibration,
        stack: ExitStack,
        *,
        after: bool,
    ) -> None:
        self._at: list[tuple[nn.Module, Any]] = []
        self._module: nn.Module | None = None
        self._current: Paused | None = None
        self._runs: list[Paused] = []
        for index in range(len(calibration)):
            run = Paused(lambda _, index=index: _forward(model, calibration, index))
            self._runs.append(run)
            stack.callback(run.close)
        for module in dict.fromkeys(layer.module for layer in layers):
            if after:
                hook = module.register_forward_hook(self._after, with_kwargs=True)
            else:
                hook = module.register_forward_pre_hook(self._before, with_kwargs=True)
            stack.callback(hook.remove)
        self._met: list[set[nn.Module]] = [set() for _ in self._runs]
        self._index = 0

    def reach(self, layer: Layer) -> list[tuple[Any, Any, Any]]:
        """Returns arguments, keywords and output of the call at which each pass now stands."""
        if self._module is layer.module:
            return [call for _, call in self._at]
        self._module, self._at = layer.module, []
        for index, run in enumerate(self._runs):
            self._index, self._current = index, run
            found = run.advance()
            if found is None or found[0] is not layer.module:
                raise CalibrationError(
                    "is not called when it is on the first batch",
                    where=f"{layer.name}, calibration batch {index}",
                    hint="give batches on which the model takes one path",
                )
            self._at.append(found)
        return [call for _, call in self._at]

    def _before(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        self._stop(module, args, kwargs, None)

    def _after(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        self._stop(module, args, kwargs, output)

    def _stop(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        if self._current is None or not self._current.is_here:
            return  # Another run of the model, by the caller.
        if module in self._met[self._index]:
            return
        self._met[self._index].add(module)
        self._current.pause((module, (args, kwargs, output)))


def _forward(model: nn.Module, calibration: Calibration, index: int) -> None:
    with torch.no_grad():
        calibration.call(model, index)
