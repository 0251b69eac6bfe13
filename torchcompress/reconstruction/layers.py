"""Layers as matrices: what a convolution, linear layer or projection multiplies, row by row."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from torchcompress.core.errors import CalibrationError
from torchcompress.reconstruction.windows import output_rows, padded, spread, windows

Norm = nn.modules.batchnorm._BatchNorm
Hook = Callable[[Tensor], None]
M = TypeVar("M", bound=nn.Module, covariant=True)

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
CHUNK = 1 << 24
"""Numbers of the largest chunk of input rows: 64 MiB in float32."""


@dataclass(eq=False)
class Layer(ABC, Generic[M]):
    """A weight as the matrices that a run multiplies its inputs with.

    For each group `y = W x + b` with W of shape (outputs, columns). A column is a kernel position
    and an input channel of the group, the channel innermost; a row is one output position of one
    sample.

    Attributes:
        name: Name of the layer, unique in the model: the module's path, and `.q`, `.k`, `.v` or
            `.out` for a projection of an attention.
        parameter: Name of the weight parameter.
        module: The module whose call is watched.
        calls: How often one forward pass calls it.
        norm: The batch norm with running statistics that reads its output, if exactly one does.
    """

    name: str
    parameter: str
    module: M
    calls: int = 0
    norm: Norm | None = None

    @property
    @abstractmethod
    def weight(self) -> Tensor:
        """The matrices, (groups, outputs, columns); a copy, detached, in the weight's dtype."""

    @abstractmethod
    def write(self, weight: Tensor) -> None:
        """Puts matrices (groups, outputs, columns) into the parameter, in its dtype."""

    @property
    @abstractmethod
    def bias(self) -> Tensor | None:
        """The bias, (groups, outputs), as a view that can be written; None where there is none."""

    @property
    @abstractmethod
    def kernel(self) -> int:
        """Kernel positions in a row; 1 for a linear layer."""

    @abstractmethod
    def tensors(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Any) -> "Seen":
        """Returns what a call of the module reads and gives, as this layer sees it."""

    @abstractmethod
    def rows(self, seen: "Seen") -> Iterator[tuple[Tensor, Tensor]]:
        """Yields chunks of input rows (groups, n, columns) and output rows (groups, n, outputs).

        They are float32, or float64 where the call was. A chunk holds at most `CHUNK` numbers, or
        one sample where that is more.
        """

    @abstractmethod
    def output_rows(self, y: Tensor) -> Tensor:
        """Returns outputs, as in `Seen.y`, as rows (groups, n, outputs)."""

    def probe(
        self,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        output: Any,
        hooks: Sequence[tuple["Layer[Any]", Hook]],
    ) -> Any:
        """Returns the output of a call of the module, through which hooks see gradients.

        Args:
            args: Positional arguments of the call.
            kwargs: Keyword arguments.
            output: What the module gave.
            hooks: For each layer of the module what to call with the gradient of what the layer
                gives, in the shape of `Seen.y`.
        """
        output = with_gradient(output)
        for _, hook in hooks:
            output.register_hook(hook)
        return output

    def check(self, seen: "Seen", batch: int) -> None:
        """Refuses inputs that are not finite.

        Args:
            seen: A call.
            batch: The index of the calibration batch that it belongs to.

        Raises:
            CalibrationError: Names the layer and the batch.
        """
        if not seen.x.isfinite().all():
            raise CalibrationError(
                "reads what is not finite (NaN or infinity)",
                where=f"{self.name}, calibration batch {batch}",
                hint="leave the batch out, or look at the layers before this one",
            )


@dataclass(frozen=True)
class Seen:
    """One call of a layer.

    Attributes:
        x: What it reads, as the module got it.
        y: What it gives.
    """

    x: Tensor
    y: Tensor


class Convolution(Layer[nn.modules.conv._ConvNd]):
    """A convolution of any dimension, transposed or not, with groups, stride and dilation.

    A transposed convolution is the plain one over its input with zeros in between, with the kernel
    flipped.
    """

    @property
    def kernel(self) -> int:
        """Kernel positions in a row."""
        return self.module.weight[0, 0].numel()

    @property
    def weight(self) -> Tensor:
        """The matrices, (groups, outputs, kernel positions * channels)."""
        weight, groups = self.module.weight.detach(), self.module.groups
        if self.module.transposed:
            weight = weight.unflatten(0, (groups, -1)).transpose(1, 2)
            weight = weight.flip(tuple(range(3, weight.dim())))
        else:
            weight = weight.unflatten(0, (groups, -1))
        return weight.movedim(2, -1).flatten(2).clone()

    def write(self, weight: Tensor) -> None:
        """Puts matrices into the parameter."""
        shape, groups = self.module.weight.shape, self.module.groups
        kernel = shape[2:]
        width = weight.shape[2] // self.kernel
        weight = weight.unflatten(2, (*kernel, width)).movedim(-1, 2)
        if self.module.transposed:
            weight = weight.flip(tuple(range(3, weight.dim()))).transpose(1, 2)
        assert len(weight) == groups
        with torch.no_grad():
            self.module.weight.copy_(weight.reshape(shape))

    @property
    def bias(self) -> Tensor | None:
        """The bias, (groups, outputs)."""
        bias = self.module.bias
        return None if bias is None else bias.detach().unflatten(0, (self.module.groups, -1))

    def tensors(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Any) -> Seen:
        """Returns the input and the output of a call, with a sample dimension."""
        x = _first(args, kwargs, "input")
        one = x.dim() == self.module.weight.dim() - 1
        return Seen(x[None], output[None]) if one else Seen(x, output)

    def rows(self, seen: Seen) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields chunks of windows and of the outputs at their positions."""
        module, positions = self.module, seen.y[0, 0].numel()
        columns = module.weight.numel() // module.out_channels * module.groups
        if module.transposed:
            columns = module.weight[:, 0].numel()
        samples = max(1, CHUNK // max(1, positions * columns))
        for x, y in zip(seen.x.split(samples), seen.y.split(samples), strict=True):
            x, y = _computed(x), _computed(y)
            yield self._windows(x, y.shape[2:]), output_rows(y, module.groups)

    def output_rows(self, y: Tensor) -> Tensor:
        """Returns outputs (samples, channels, *space) as rows."""
        y = y[None] if y.dim() == self.module.weight.dim() - 1 else y
        return output_rows(y, self.module.groups)

    def _windows(self, x: Tensor, out: torch.Size) -> Tensor:
        module = self.module
        kernel, dilation, stride = module.kernel_size, module.dilation, module.stride
        if not module.transposed:
            x = padded(x, _sides(module), module.padding_mode)
            return windows(x, kernel, stride, dilation, module.groups)
        x = spread(x, stride)
        sides: list[int] = []
        for size, have, k, d, pad in zip(
            out, x.shape[2:], kernel, dilation, module.padding, strict=True
        ):
            assert isinstance(pad, int)
            before = d * (k - 1) - pad
            sides = [before, size + d * (k - 1) - have - before, *sides]
        return windows(padded(x, sides, "zeros"), kernel, (1,) * len(out), dilation, module.groups)


class Linear(Layer[nn.Linear]):
    """A linear layer over the last dimension."""

    @property
    def kernel(self) -> int:
        """One."""
        return 1

    @property
    def weight(self) -> Tensor:
        """The matrix, (1, outputs, inputs)."""
        return self.module.weight.detach()[None].clone()

    def write(self, weight: Tensor) -> None:
        """Puts a matrix into the parameter."""
        with torch.no_grad():
            self.module.weight.copy_(weight[0])

    @property
    def bias(self) -> Tensor | None:
        """The bias, (1, outputs)."""
        return None if self.module.bias is None else self.module.bias.detach()[None]

    def tensors(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Any) -> Seen:
        """Returns the input and the output of a call."""
        return Seen(_first(args, kwargs, "input"), output)

    def rows(self, seen: Seen) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields chunks of input rows and output rows."""
        x, y = seen.x.reshape(-1, seen.x.shape[-1]), seen.y.reshape(-1, seen.y.shape[-1])
        count = max(1, CHUNK // x.shape[1])
        for part, out in zip(x.split(count), y.split(count), strict=True):
            yield _computed(part)[None], _computed(out)[None]

    def output_rows(self, y: Tensor) -> Tensor:
        """Returns outputs as rows."""
        return y.reshape(1, -1, y.shape[-1])


def with_gradient(output: Tensor) -> Tensor:
    """Returns a tensor that requires a gradient, equal to the given one, and no leaf."""
    return output if output.requires_grad else output + torch.zeros_like(output, requires_grad=True)


def _sides(module: nn.modules.conv._ConvNd) -> list[int]:
    """Returns the padding that a call uses: of zeros, the attribute as it is by now."""
    if module.padding_mode != "zeros" or isinstance(module.padding, str):
        return module._reversed_padding_repeated_twice
    return [side for size in reversed(module.padding) for side in (size, size)]


def _first(args: tuple[Any, ...], kwargs: Mapping[str, Any], name: str) -> Tensor:
    return args[0] if args else kwargs[name]


def _computed(x: Tensor) -> Tensor:
    """Returns values in a dtype whose products are exact enough."""
    return x if x.dtype == torch.float64 else x.float()
