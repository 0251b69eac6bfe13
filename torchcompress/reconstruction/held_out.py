"""Calibration batches kept apart, to judge on what a fit has not seen."""

import copy

from torchcompress.reconstruction.capture import Calibration

HELD_OUT = 4
"""One batch in so many is held out."""


def held_out_from(calibration: Calibration) -> int:
    """Returns the first of the last batches that are held out; 0 where there is only one batch."""
    count = len(calibration)
    return count - max(1, count // HELD_OUT) if count > 1 else 0


def split(calibration: Calibration) -> tuple[Calibration, Calibration]:
    """Returns the batches to fit on and those to judge on; a single batch serves as both."""
    at = held_out_from(calibration)
    fit, held = copy.copy(calibration), copy.copy(calibration)
    fit.batches, held.batches = calibration.batches[: at or None], calibration.batches[at:]
    return fit, held
