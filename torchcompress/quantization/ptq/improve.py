"""The algorithms in order, each kept only where the measured error falls."""

import math
from collections.abc import Callable, Collection
from dataclasses import replace
from functools import partial

from torchcompress.quantization.calibrate import Batches
from torchcompress.quantization.config import QuantizationConfig
from torchcompress.quantization.observers import grid_for, symmetric
from torchcompress.quantization.ptq.bias_correction import correct_biases
from torchcompress.quantization.ptq.equalization import equalize
from torchcompress.quantization.ptq.rounding import learn_rounding, search_steps
from torchcompress.quantization.ptq.samples import Samples, output_noise
from torchcompress.quantization.quantize_part import Draft
from torchcompress.quantization.ranges import range_classes
from torchcompress.quantization.trials import Trial

Algorithm = Callable[[Draft, Samples], Draft]

_MOST_BYTES = 2**27
_WIDER = (0.5, 1.0)
"""How far clipped ranges are widened towards all that was seen."""
_STRENGTH = 0.5
_BIAS = "bias correction"
_FEWEST = 16
"""Samples from which something is learnt; from fewer it would be learnt by heart."""


def improve(
    draft: Draft, batches: Batches, config: QuantizationConfig
) -> tuple[Draft, tuple[Trial, ...]]:
    """Applies the algorithms of a configuration to a draft.

    Each is learnt on three quarters of the calibration batches and judged on the others by
    `output_noise`; one that does not lower it is undone. A single batch is divided likewise. From
    fewer than 16 samples nothing is learnt.

    Args:
        draft: As calibrated.
        batches: Calibration data.
        config: Which algorithms.
    """
    if not config.learns:
        return draft, ()
    samples = Samples.of(draft.float_module(), batches, _MOST_BYTES)
    if samples.count < _FEWEST:
        return draft, ()
    judge = _Judge(draft, samples)
    scaled = partial(
        equalize, batches=batches, strength=_STRENGTH, histogram=config.ranges == "mse"
    )
    if config.equalization:
        judge.tries("cross-layer equalization", partial(scaled, norms=False))
    if config.smoothing:
        judge.tries("SmoothQuant", partial(scaled, norms=True))
    if config.ranges == "mse":
        for share in _WIDER:
            judge.tries("wider ranges", partial(widen, share=share))
    if config.weight_steps:
        judge.tries("weight steps", partial(search_steps, seed=config.seed))
    corrected = config.bias_correction and judge.tries(_BIAS, correct_biases)
    if config.rounding != "nearest":
        judge.tries(config.rounding, _learn(config, corrected))
    return judge.draft, tuple(judge.trials)


def refit(
    draft: Draft, batches: Batches, config: QuantizationConfig, trials: Collection[Trial]
) -> Draft:
    """Fits biases and rounding again: they made up for noise of layers that are float now.

    Args:
        draft: As improved, with more layers in float.
        batches: Calibration data.
        config: As in `improve`.
        trials: What `improve` kept.
    """
    kept = {trial.algorithm for trial in trials if trial.kept}
    if not kept & {_BIAS, config.rounding}:
        return draft
    samples = Samples.of(draft.float_module(), batches, _MOST_BYTES)
    draft = replace(draft, integers={})
    if _BIAS in kept:
        draft = correct_biases(draft, samples)
    return _learn(config, _BIAS in kept)(draft, samples) if config.rounding in kept else draft


def _learn(config: QuantizationConfig, correct_bias: bool) -> Algorithm:
    return partial(
        learn_rounding, method=config.rounding, correct_bias=correct_bias, seed=config.seed
    )


class _Judge:
    """The best draft so far, and what has been tried."""

    def __init__(self, draft: Draft, samples: Samples) -> None:
        self.draft, self.samples = draft, samples
        self.noise = output_noise(draft, samples)
        self.trials: list[Trial] = []

    def tries(self, name: str, algorithm: Algorithm) -> bool:
        """Runs an algorithm and returns whether its result is the best so far."""
        made = algorithm(self.draft, self.samples)
        if made is self.draft:
            return False
        noise = output_noise(made, self.samples)
        kept = noise < self.noise
        self.trials.append(Trial(name, _decibels(self.noise), _decibels(noise), kept))
        if kept:
            self.draft, self.noise = made, noise
        return kept


def widen(draft: Draft, samples: Samples, *, share: float) -> Draft:
    """Widens clipped ranges: clipping errs alike everywhere, rounding does not.

    Args:
        draft: With the ranges to widen.
        samples: Not needed here.
        share: 1 reaches the smallest and largest value seen.
    """
    classes = range_classes(draft.program)
    ends: dict[str, tuple[float, float]] = {}
    for value, (low, high) in draft.extents.items():
        least, most = ends.get(classes[value], (low, high))
        ends[classes[value]] = min(least, low), max(most, high)
    grids = dict(draft.grids)
    for value, grid in draft.stored.items():
        low, high = -grid.zero_point * grid.scale, (255 - grid.zero_point) * grid.scale
        least, most = ends[classes[value]]
        wider = grid_for(low + share * (least - low), high + share * (most - high))
        grids[value] = symmetric(wider) if draft.symmetric else wider
    return draft if grids == draft.grids else replace(draft, grids=grids)


def _decibels(noise: float) -> float | None:
    return -10 * math.log10(noise) if noise > 0 else None
