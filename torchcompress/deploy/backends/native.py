"""PyTorch itself: the int8 program on oneDNN, or the float model, in channels_last if it can."""

from typing import Any

import torch
from torch import Tensor, nn

from torchcompress.core.inputs import Inputs, call, map_tensors
from torchcompress.core.modules import copied, undisturbed
from torchcompress.deploy.onnx.parts import int8_parts


class ChannelsLast(nn.Module):
    """A float model whose images and weights are laid out channels_last.

    Args:
        model: In eval mode; its layout is changed.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model: nn.Module = model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Calls the model."""
        return self.model(*map_tensors(_laid_out, args), **map_tensors(_laid_out, kwargs))


def native(model: nn.Module, x: Inputs) -> nn.Module:
    """Returns a copy of a model in eval mode, laid out for the CPU.

    A model that only takes plain memory, as `view` after a convolution does, keeps it.

    Args:
        model: An int8 or float model.
        x: Example inputs, which it takes.
    """
    made = copied(model).eval().requires_grad_(False)
    maps = any(isinstance(module, nn.Conv2d) for module in made.modules())
    if not maps or int8_parts(made):
        return made
    laid_out = ChannelsLast(made)
    try:
        with undisturbed(laid_out):
            call(laid_out, x)
    except RuntimeError:
        return copied(model).eval().requires_grad_(False)
    return laid_out


def _laid_out(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x
