"""How long a model takes, measured so that two models can be compared.

The models run in turns, A-B-A-B, so that whatever else the machine does hits all of them. The
lowest decile of the calls stands for a model, since noise only ever adds time.
"""

import copy
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from torchcompress.core.inputs import Inputs, call, map_tensors
from torchcompress.core.progress import progress

_DECILE = 10
_INTERVAL = (5, 95)


@dataclass(frozen=True, kw_only=True)
class LatencySetting:
    """The conditions of a latency, which print as its key: `threads=1,batch=8`.

    Args:
        threads: How many threads torch may use.
        batch: Samples in one call.
        image_size: Height and width of the images, None for those of the example.
    """

    threads: int = 1
    batch: int = 1
    image_size: int | None = None

    def __str__(self) -> str:
        size = "" if self.image_size is None else f",image_size={self.image_size}"
        return f"threads={self.threads},batch={self.batch}{size}"

    def example(self, x: Inputs) -> Inputs:
        """Returns `x` with its first sample repeated to the batch, and images resized.

        Args:
            x: Example inputs; the first dimension of every tensor is the batch.
        """
        return map_tensors(self._resized, x)

    def _resized(self, tensor: Tensor) -> Tensor:
        one = tensor[:1]
        if self.image_size is not None and one.dim() == 4:
            one = F.interpolate(one, size=(self.image_size, self.image_size))
        return one.repeat(self.batch, *[1] * (one.dim() - 1))


@dataclass(frozen=True)
class Ratio:
    """How many times one time is another.

    Args:
        value: The ratio of the lowest deciles.
        low: 5th percentile of the ratio over the rounds.
        high: 95th percentile of the ratio over the rounds.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Timings:
    """Times of several models that ran in turns.

    Args:
        seconds: For each model, for each round, the time of each call.
    """

    seconds: dict[str, list[list[float]]]

    def milliseconds(self, name: str) -> float:
        """Returns the lowest decile of a model's calls in milliseconds."""
        return 1e3 * _lowest_decile(list(chain.from_iterable(self.seconds[name])))

    def speedup(self, before: str, after: str) -> Ratio:
        """Returns how many times `before` takes as long as `after`."""
        rounds = [
            _lowest_decile(a) / _lowest_decile(b)
            for a, b in zip(self.seconds[before], self.seconds[after], strict=True)
        ]
        low, high = (float(np.percentile(rounds, p)) for p in _INTERVAL)
        return Ratio(self.milliseconds(before) / self.milliseconds(after), low, high)


def measure_latency(
    models: Mapping[str, tuple[nn.Module, Inputs]],
    *,
    threads: int = 1,
    rounds: int = 15,
    channels_last: bool = True,
) -> Timings:
    """Times the forward passes of several models on the CPU, in turns.

    The models are copied; parameters and images of the copies are laid out channels_last. A
    model without parameters, such as an int8 one, keeps the layout that it chose.

    Args:
        models: By name, a model and the inputs that it is called with.
        threads: How many threads torch may use; restored afterwards.
        rounds: How often the turn passes through all models.
        channels_last: Otherwise parameters and images keep their layout.
    """
    runs = {name: _runner(model, x, channels_last) for name, (model, x) in models.items()}
    with thread_count(threads), torch.inference_mode():
        return time_in_turns(runs, rounds=rounds)


@contextmanager
def thread_count(threads: int) -> Iterator[None]:
    """Lets torch use so many threads in a block."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def time_in_turns(
    runs: Mapping[str, Callable[[], object]],
    *,
    rounds: int = 15,
    block_seconds: float = 0.03,
    clock: Callable[[], float] = time.perf_counter,
) -> Timings:
    """Times several functions in turns, after a warm-up of each.

    A turn lasts about `block_seconds` and holds at least three calls, so that the first, which
    finds cold caches, does not stand for the others.

    Args:
        runs: What to time, by name.
        rounds: How often the turn passes through all of them.
        block_seconds: How long one turn lasts.
        clock: The time in seconds.
    """
    calls = {
        name: max(3, math.ceil(block_seconds / min(_timed(run, 4, clock))))
        for name, run in runs.items()
    }
    seconds: dict[str, list[list[float]]] = {name: [] for name in runs}
    for _ in progress(range(rounds), "latency", unit="round"):
        for name, run in runs.items():
            seconds[name].append(_timed(run, calls[name], clock))
    return Timings(seconds)


def _runner(model: nn.Module, x: Inputs, channels_last: bool) -> Callable[[], object]:
    model = copy.deepcopy(model).eval().to("cpu")
    if channels_last and next(model.parameters(), None) is not None:
        model = model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    inputs = map_tensors(_channels_last if channels_last else _on_cpu, x)
    return lambda: call(model, inputs)


def _channels_last(tensor: Tensor) -> Tensor:
    tensor = _on_cpu(tensor)
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.dim() == 4 else tensor


def _on_cpu(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu()


def _timed(run: Callable[[], object], calls: int, clock: Callable[[], float]) -> list[float]:
    times = []
    for _ in range(calls):
        start = clock()
        run()
        times.append(clock() - start)
    return times


def _lowest_decile(times: list[float]) -> float:
    return float(np.percentile(times, _DECILE))
