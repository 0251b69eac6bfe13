"""Which numbers of a run depend on its input, and which are the same whatever the input is."""

from typing import Any

import torch
from torch import Tensor

from torchcompress.graph.dependence_rules import ALL, dependent
from torchcompress.graph.dispatch import CountedRun
from torchcompress.graph.operands import tensors_among, written

_TELLING = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}


class Dependence(CountedRun):
    """Follows through a run which elements of each tensor may depend on the input or on chance.

    What the rules do not know depends on the input wherever any of its operands does, so that an
    element without a mark is proved to be the same for every input of the same shape. Each storage
    has a shadow of marks, in which a view of it finds its own.

    Args:
        inputs: Tensors that the run is called with.
        sized: Whether what the size of the input changes counts as dependent too, such as what a
            border of zeros does to a constant.

    Attributes:
        told: Whether the code was told a number or a shape that depends on the input. It may take
            another way on another input, of which the marks then know nothing.
    """

    def __init__(self, inputs: list[Tensor], *, sized: bool = True) -> None:
        super().__init__()
        self.sized = sized
        self.told = False
        self._shadows: dict[int, tuple[torch.UntypedStorage, int, Tensor]] = {}
        for tensor in inputs:
            self._mark(tensor, ALL)

    def derived(self, tensor: Tensor) -> bool:
        """Whether a tensor was computed from the input at all, if only from its shape."""
        return tensor.untyped_storage()._cdata in self._shadows

    def of(self, tensor: Tensor) -> Tensor:
        """Returns a mark for each element of a tensor: whether it may depend on the input."""
        shadow = self._shadows.get(tensor.untyped_storage()._cdata)
        if shadow is None:
            return torch.zeros((), dtype=torch.bool, device=tensor.device).expand(tensor.shape)
        _, width, marks = shadow
        if width != tensor.element_size():  # It is read as another type.
            return marks.any().expand(tensor.shape)
        return marks.as_strided(tensor.shape, tensor.stride(), tensor.storage_offset())

    def run(
        self, func: torch._ops.OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Runs one operation and marks what it makes or writes."""
        marks, operands = dependent(self, func, args, kwargs), tensors_among((args, kwargs))
        held = {tensor.untyped_storage()._cdata for tensor in operands}
        derived = any(map(self.derived, operands))
        out = func(*args, **kwargs)
        if not derived and not marks.any():
            return out
        self.told |= not _TELLING.isdisjoint(func.tags) and bool(marks.any())
        for tensor in tensors_among(out):
            if tensor.untyped_storage()._cdata not in held:  # A view has its marks.
                self._mark(tensor, marks)
        for tensor in written(func, args, kwargs):
            self._mark(tensor, marks)
        return out

    def _mark(self, tensor: Tensor, marks: Tensor) -> None:
        if marks.dim() and marks.shape != tensor.shape:  # Of another result.
            marks = ALL
        storage = tensor.untyped_storage()
        if storage._cdata not in self._shadows:
            width = tensor.element_size()
            shadow = torch.zeros(storage.nbytes() // width, dtype=torch.bool, device=tensor.device)
            self._shadows[storage._cdata] = storage, width, shadow
        _, width, shadow = self._shadows[storage._cdata]
        if width != tensor.element_size():  # It is written as another type.
            shadow.logical_or_(marks.any())
        else:
            shadow.as_strided(tensor.shape, tensor.stride(), tensor.storage_offset()).copy_(marks)
