"""How much each layer alone costs in int8."""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from torch import nn

from torchcompress.core.inputs import Forward
from torchcompress.core.progress import progress
from torchcompress.quantization.config import QuantizationConfig
from torchcompress.quantization.drafted import Drafted, draft_parts
from torchcompress.quantization.program import Op
from torchcompress.quantization.ptq.samples import Samples, output_noise
from torchcompress.quantization.quantize_part import Draft

_MOST_BYTES = 2**24


@dataclass(frozen=True)
class LayerSensitivity:
    """What one layer's call costs.

    Args:
        name: Module path and call, as in `table()`.
        kind: Such as `conv2d`.
        part: Module path of the program that holds it; empty is the whole model.
        noise: Squared error of the program's outputs when this call alone is int8, divided by
            the outputs' squares.
    """

    name: str
    kind: str
    part: str
    noise: float

    @property
    def sqnr_db(self) -> float | None:
        """The same as signal over noise, in dB; None without noise."""
        return -10 * math.log10(self.noise) if self.noise > 0 else None


@dataclass(frozen=True)
class Sensitivity:
    """The layers of a model, the most sensitive first.

    Args:
        rows: One for each call of a layer that can be int8.
    """

    rows: tuple[LayerSensitivity, ...]

    def __iter__(self) -> Iterator[LayerSensitivity]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def to_json(self) -> list[dict[str, Any]]:
        """Returns the rows as JSON values."""
        return [asdict(row) for row in self.rows]

    def __str__(self) -> str:
        width = max(len(row.name) for row in self.rows)
        lines = [f"{'layer'.ljust(width)}  SQNR dB when it alone is int8"]
        for row in self.rows:
            ratio = "no noise" if row.sqnr_db is None else f"{row.sqnr_db:.1f}"
            lines.append(f"{row.name.ljust(width)}  {ratio}")
        return "\n".join(lines)


def sensitivity(
    model: nn.Module,
    loader: Iterable[Any],
    config: QuantizationConfig | str = "fast",
    *,
    forward: Forward | None = None,
) -> Sensitivity:
    """Ranks the layers of a model by the error of the outputs when only that layer is int8.

    Weights, input and, where a sum is fused into the layer, output are quantized. The float model
    is the measure; no labels are needed.

    Args:
        model: As for `quantize`; left as it was.
        loader: Calibration batches; the error is measured on a quarter of them.
        config: How to quantize.
        forward: How the model is called on a batch.

    Raises:
        UnsupportedError: As in `quantize`.
        CalibrationError: As in `quantize`.
        CompressError: As in `quantize`.
    """
    if not isinstance(config, QuantizationConfig):
        config = QuantizationConfig.preset(config)
    plain = replace(config, placement="all")
    return rank_layers(draft_parts(model, loader, plain, forward=forward))


def rank_layers(drafted: Drafted) -> Sensitivity:
    """Ranks the int8 layers of drafts.

    Args:
        drafted: The parts of a model.
    """
    rows: list[LayerSensitivity] = []
    for path, draft in drafted.drafts.items():
        batches = drafted.found.parts[path].batches
        samples = Samples.of(draft.float_module(), batches, _MOST_BYTES)
        # Fits made up for the noise of other layers, which is not there now.
        fits = draft.adjustments.items()
        shifts = {key: replace(value, shift=None) for key, value in fits}
        plain = replace(draft, adjustments=shifts, integers={})
        for op in progress(int8_layers(draft), "sensitivity", unit="layer"):
            alone = replace(plain, int8=frozenset({op.output}), slower={})
            rows.append(LayerSensitivity(op.name, op.kind, path, output_noise(alone, samples)))
    return Sensitivity(tuple(sorted(rows, key=lambda row: -row.noise)))


def int8_layers(draft: Draft) -> list[Op]:
    """Returns the layers of a draft that compute on integers, in order."""
    return [op for op in draft.program.ops if op.layer is not None and op.output in draft.int8]


def calls_of(rows: Iterable[LayerSensitivity]) -> Mapping[str, set[str]]:
    """Returns the names of calls by part."""
    found: dict[str, set[str]] = {}
    for row in rows:
        found.setdefault(row.part, set()).add(row.name)
    return found
