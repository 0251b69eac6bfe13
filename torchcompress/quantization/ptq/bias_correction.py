"""Bias correction: the mean error of each channel goes into the bias."""

from dataclasses import replace

from torchcompress.quantization.ptq.samples import Samples
from torchcompress.quantization.ptq.walk import walk
from torchcompress.quantization.quantize_part import Draft


def correct_biases(draft: Draft, samples: Samples) -> Draft:
    """Shifts each int8 layer's bias by its mean error, behind layers that are corrected already.

    Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction",
    here with measured means.

    Args:
        draft: What to correct.
        samples: Calibration data.
    """
    adjustments = dict(draft.adjustments)
    for visit in walk(draft, samples.fit, "bias correction"):
        visit.correct_bias()
        adjustments[visit.layer] = visit.adjustment
    return replace(draft, adjustments=adjustments)
