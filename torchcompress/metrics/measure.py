"""One model in numbers, and two side by side."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from torch import nn

from torchcompress.core.inputs import Inputs, call
from torchcompress.graph.macs import count_macs
from torchcompress.metrics.accuracy import evaluate
from torchcompress.metrics.latency import LatencySetting, Ratio, measure_latency
from torchcompress.metrics.size import count_params, count_zeros, file_bytes, state_dict_bytes

DEFAULT_SETTINGS = (LatencySetting(batch=1), LatencySetting(batch=8))
"""One thread, one sample and eight."""


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What a model is and does, in numbers.

    Args:
        accuracy: Fraction of right answers, in [0, 1]; None where no data was given.
        file_bytes: Size of the file that holds it; without a file, of its state_dict.
        params: Weights and biases.
        macs: Multiply-accumulates of one forward pass on one sample.
        zeros: Weights and biases that are exactly zero.
        latency_ms: Milliseconds by setting, such as `"threads=1,batch=8"`.
    """

    accuracy: float | None
    file_bytes: int
    params: int
    macs: int
    zeros: int = 0
    latency_ms: dict[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Returns the numbers as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """Returns the numbers that `to_json` described."""
        return cls(**data)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two models side by side.

    Args:
        before: The first model in numbers.
        after: The second.
        speedup: By setting, how many times `before` takes as long as `after`.
    """

    before: Measurement
    after: Measurement
    speedup: dict[str, Ratio]


def measure(
    model: nn.Module,
    x: Inputs,
    *,
    loader: Iterable[Any] | None = None,
    file: str | Path | None = None,
    settings: Sequence[LatencySetting] = DEFAULT_SETTINGS,
) -> Measurement:
    """Measures one model.

    Args:
        model: Any model; it is not changed.
        x: Example inputs.
        loader: Batches `(inputs, labels)` for the accuracy.
        file: The file that holds the model, for its size.
        settings: The conditions of the latencies.
    """
    numbers = _without_latency(model, x, loader, file)
    times = {
        str(s): measure_latency({"model": (model, s.example(x))}, threads=s.threads)
        for s in settings
    }
    return replace(numbers, latency_ms={s: t.milliseconds("model") for s, t in times.items()})


def compare(
    before: nn.Module | tuple[nn.Module, Measurement],
    after: nn.Module,
    x: Inputs,
    *,
    loader: Iterable[Any] | None = None,
    file: str | Path | None = None,
    settings: Sequence[LatencySetting] = DEFAULT_SETTINGS,
) -> Comparison:
    """Measures two models, their latencies in turns.

    Args:
        before: The model to compare with; with a measurement, only its latencies are new.
        after: The model of interest.
        x: Example inputs of both.
        loader: Batches `(inputs, labels)` for the accuracies.
        file: The file that holds `after`, for its size.
        settings: The conditions of the latencies.
    """
    if isinstance(before, tuple):
        baseline, old = before
    else:
        baseline, old = before, _without_latency(before, x, loader, None)
    new = _without_latency(after, x, loader, file)
    times = {}
    for s in settings:
        example = s.example(x)
        pair = {"before": (baseline, example), "after": (after, example)}
        times[str(s)] = measure_latency(pair, threads=s.threads)
    return Comparison(
        before=replace(old, latency_ms={s: t.milliseconds("before") for s, t in times.items()}),
        after=replace(new, latency_ms={s: t.milliseconds("after") for s, t in times.items()}),
        speedup={s: t.speedup("before", "after") for s, t in times.items()},
    )


def float_form(model: nn.Module, x: Inputs) -> nn.Module:
    """Returns the form of an int8 model that runs the same in float; another model is its own.

    Args:
        model: Any model.
        x: Example inputs. The form has run on them once, since its first call with new shapes does
            more than the network's arithmetic.
    """
    reference = getattr(type(model), "reference", None)
    if reference is None:
        return model
    form = reference(model)
    call(form, x)
    return form


def _without_latency(
    model: nn.Module, x: Inputs, loader: Iterable[Any] | None, file: str | Path | None
) -> Measurement:
    one = LatencySetting().example(x)
    return Measurement(
        accuracy=None if loader is None else evaluate(model, loader).fraction,
        file_bytes=state_dict_bytes(model) if file is None else file_bytes(file),
        params=count_params(model),
        macs=count_macs(float_form(model, one), one),
        zeros=count_zeros(model),
    )
