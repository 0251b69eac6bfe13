"""The rows of numbers that a layer's weight is multiplied with, drawn from its inputs."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from torchcompress.quantization.program import Op


def weight_rows(weight: Tensor, op: Op) -> Tensor:
    """Returns a layer's weight as (groups, outputs, columns)."""
    groups = op.args.get("groups", 1)
    return weight.flatten(1).unflatten(0, (groups, -1))


def input_rows(
    op: Op, kernel: tuple[int, ...], inputs: Iterable[Tensor], most: int, seed: int
) -> Tensor:
    """Draws rows of a layer's inputs, the same number from each sample.

    Args:
        op: A convolution or linear layer.
        kernel: Sizes of the convolution's window.
        inputs: What it reads, call by call.
        most: Rows, about.
        seed: Of the places that are drawn.

    Returns:
        (groups, rows, columns), ordered like `weight_rows`.
    """
    calls = list(inputs)
    generator = torch.Generator().manual_seed(seed)
    each = max(1, most // sum(len(x) for x in calls))
    draw = _linear_rows if op.kind == "linear" else _convolution_rows
    return torch.cat([draw(op.args, kernel, x, each, generator) for x in calls], 1)


def _linear_rows(
    args: dict[str, Any], kernel: tuple[int, ...], x: Tensor, each: int, generator: torch.Generator
) -> Tensor:
    flat = x.reshape(len(x), -1, x.shape[-1])
    places = _places(flat.shape[1], each, generator).to(x.device)
    return flat[:, places].flatten(0, 1).unsqueeze(0)


def _convolution_rows(
    args: dict[str, Any], kernel: tuple[int, ...], x: Tensor, each: int, generator: torch.Generator
) -> Tensor:
    edges = [p for p in reversed(args["padding"]) for _ in range(2)]
    windows = torch.nn.functional.pad(x, edges)
    for dim, (size, stride, dilation) in enumerate(
        zip(kernel, args["stride"], args["dilation"], strict=True), start=2
    ):
        windows = windows.unfold(dim, dilation * (size - 1) + 1, stride)[..., ::dilation]
    spatial = windows.shape[2 : 2 + len(kernel)]
    places = _places(spatial.numel(), each, generator)
    where = torch.unravel_index(places.to(x.device), spatial)
    drawn = windows[(slice(None), slice(None), *where)].movedim(2, 1)
    rows = drawn.reshape(len(x) * len(places), args["groups"], -1)
    return rows.transpose(0, 1)


def _places(count: int, each: int, generator: torch.Generator) -> Tensor:
    return torch.randperm(count, generator=generator)[:each]
