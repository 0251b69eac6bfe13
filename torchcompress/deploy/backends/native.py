"""PyTorch itself: the int8 program on oneDNN, or the float model in channels_last."""

from typing import Any

import torch
from torch import Tensor, nn

from torchcompress.core.inputs import map_tensors
from torchcompress.core.modules import copied
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


def native(model: nn.Module) -> nn.Module:
    """Returns a copy of a model in eval mode, laid out for the CPU.

    Args:
        model: An int8 or float model.
    """
    made = copied(model).eval().requires_grad_(False)
    maps = any(isinstance(module, nn.Conv2d) for module in made.modules())
    return ChannelsLast(made) if maps and not int8_parts(made) else made


def _laid_out(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x
