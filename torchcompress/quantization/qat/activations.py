"""The ranges of activations while a model is trained: followed batch by batch, or learned."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from torchcompress.quantization.observers import grid_for
from torchcompress.quantization.program import QParams
from torchcompress.quantization.qat.fake_quantize import fake_quantize, learned_fake_quantize

_SMALLEST = torch.finfo(torch.float32).tiny


class Ranges(nn.Module):
    """The grids of a model's activations, one for each class of values.

    Attributes:
        observing: Whether a forward pass in train mode moves them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.observing = True

    def begin(self) -> list[QParams]:
        """Returns the grids of the forward pass that begins."""
        return self.grids()

    def end(self) -> None:
        """The forward pass is done."""

    def grids(self) -> list[QParams]:
        """Returns the grids as the int8 program would have them, steps in float32."""
        raise NotImplementedError

    def quantize(self, index: int, x: Tensor, grid: QParams, *, rectified: bool = False) -> Tensor:
        """Fake-quantizes values of a class.

        Args:
            index: The class.
            x: The values.
            grid: That of the class in this forward pass.
            rectified: Pass them through ReLU first.
        """
        raise NotImplementedError


class MovingRanges(Ranges):
    """One range for each class of values, the moving average of the extremes of each batch.

    Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient
    Integer-Arithmetic-Only Inference".

    What a batch shows moves the ranges at the next training forward, so that all of one forward
    uses the same grids, and they are those of the model if training ends there.

    Args:
        grids: Those to begin with.
        averaging: How far a range moves towards that of a batch.
    """

    def __init__(self, grids: Sequence[QParams], averaging: float) -> None:
        super().__init__()
        self.averaging = averaging
        self.measuring = False
        self.low: Tensor
        self.high: Tensor
        self.seen_low: Tensor
        self.seen_high: Tensor
        self.kept: Tensor
        lows = torch.tensor([-g.zero_point * g.scale for g in grids], dtype=torch.float32)
        highs = torch.tensor([(255 - g.zero_point) * g.scale for g in grids], dtype=torch.float32)
        for name, values in (("low", lows), ("high", highs)):
            self.register_buffer(name, values)
            self.register_buffer(f"seen_{name}", values.clone())
        self.register_buffer("kept", torch.ones(2, len(grids), dtype=torch.float32))

    @torch.no_grad()
    def begin(self) -> list[QParams]:
        """Returns the grids of the next forward; in training the last batch moves them."""
        if self.training and self.observing:
            for mean, seen in ((self.low, self.seen_low), (self.high, self.seen_high)):
                mean.lerp_(torch.where(seen.isfinite(), seen, mean), self.averaging)
            self.restart()
        return self.grids()

    def end(self) -> None:
        """Lets the ranks of a distributed training see what each of them has seen."""
        wrapper = DistributedDataParallel._get_active_ddp_module()
        if wrapper is not None and self.training and self.observing:
            both = torch.stack([-self.seen_low, self.seen_high])
            dist.all_reduce(both, dist.ReduceOp.MAX, wrapper.process_group)
            self.seen_low.copy_(-both[0])
            self.seen_high.copy_(both[1])

    def restart(self) -> None:
        """Forgets what the last batch has shown."""
        self.seen_low.zero_()
        self.seen_high.zero_()

    def grids(self) -> list[QParams]:
        """Returns the grids over the kept share of each range."""
        ends = (torch.stack([self.low, self.high]) * self.kept).tolist()
        made = (grid_for(low, high) for low, high in zip(*ends, strict=True))
        return [QParams(float(np.float32(grid.scale)), grid.zero_point) for grid in made]

    def quantize(self, index: int, x: Tensor, grid: QParams, *, rectified: bool = False) -> Tensor:
        """Fake-quantizes values of a class, and looks at them."""
        if self.measuring or (self.training and self.observing):
            self.see(index, x, rectified=rectified)
        return fake_quantize(x, grid, rectified=rectified)

    @torch.no_grad()
    def see(self, index: int, x: Tensor, *, rectified: bool = False) -> None:
        """Widens what the batch under way has shown of a class; a range holds 0."""
        if x.numel() == 0:
            return
        self.seen_high[index].clamp_(min=x.amax())
        if not rectified:
            self.seen_low[index].clamp_(max=x.amin())

    @torch.no_grad()
    def start_from(self, lows: Tensor, highs: Tensor) -> None:
        """Takes the mean extremes of batches, and keeps the share of them that the grids hold.

        Args:
            lows: One for each class.
            highs: Likewise.
        """
        for row, (mean, seen, found) in enumerate(
            ((self.low, self.seen_low, lows), (self.high, self.seen_high, highs))
        ):
            self.kept[row] = torch.where(found != 0, mean / found, 1.0)
            mean.copy_(found)
            seen.copy_(found)


class LearnedRanges(Ranges):
    """One learned step for each class of values; where 0 lies on the grid stays.

    Args:
        grids: Those to begin with.
    """

    def __init__(self, grids: Sequence[QParams]) -> None:
        super().__init__()
        self.zero_point: Tensor
        self.scale = nn.Parameter(torch.tensor([grid.scale for grid in grids], dtype=torch.float32))
        self.register_buffer("zero_point", torch.tensor([grid.zero_point for grid in grids]))

    def grids(self) -> list[QParams]:
        """Returns the grids of the steps as they are now."""
        steps = self.scale.detach().abs().clamp(min=_SMALLEST).tolist()
        return [QParams(*pair) for pair in zip(steps, self.zero_point.tolist(), strict=True)]

    def quantize(self, index: int, x: Tensor, grid: QParams, *, rectified: bool = False) -> Tensor:
        """Fake-quantizes values of a class, with a gradient for its step."""
        x = torch.relu(x) if rectified else x
        return learned_fake_quantize(x, grid, self.scale[index])
