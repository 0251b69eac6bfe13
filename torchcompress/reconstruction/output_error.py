"""How far a model's outputs are from those that it should give."""

import math
from typing import Any

from torch import Tensor, nn

from torchcompress.core.errors import CalibrationError
from torchcompress.core.inputs import tensors_in
from torchcompress.reconstruction.capture import Calibration

_TINY = 1e-30


class OutputError:
    """The outputs of a model on calibration batches, held to compare others with.

    Args:
        model: Whose outputs are wanted.
        calibration: The batches.

    Raises:
        CalibrationError: A batch that the model fails on, or outputs that are not finite.
    """

    def __init__(self, model: nn.Module, calibration: Calibration) -> None:
        self._calibration = calibration
        self._wanted = [_floats(calibration.run(model, i)) for i in range(len(calibration))]
        for index, outputs in enumerate(self._wanted):
            if not outputs or not all(y.isfinite().all() for y in outputs):
                raise CalibrationError(
                    "the model's outputs are not finite"
                    if outputs
                    else "the model gives no floats",
                    where=f"calibration batch {index}",
                    hint="let forward= return the tensors that matter",
                )

    def of(self, model: nn.Module, start: int = 0) -> float:
        """Returns the squared error of a model's outputs, over the energy of the wanted ones.

        An output that is not finite makes it infinite.

        Args:
            model: A model of the same outputs.
            start: The first batch that counts.

        Raises:
            CalibrationError: It fails on a batch, or gives outputs of other shapes.
        """
        error = energy = 0.0
        for index in range(start, len(self._wanted)):
            found, wanted = _floats(self._calibration.run(model, index)), self._wanted[index]
            if [y.shape for y in found] != [y.shape for y in wanted]:
                raise CalibrationError(
                    "a smaller model gives outputs of other shapes",
                    where=f"calibration batch {index}",
                    hint="let forward= return tensors of fixed shape, as of a detector's backbone",
                )
            error += sum(float((a - b).square().sum()) for a, b in zip(found, wanted, strict=True))
            energy += sum(float(b.square().sum()) for b in wanted)
        return error / max(energy, _TINY) if math.isfinite(error) else math.inf


def _floats(outputs: Any) -> list[Tensor]:
    """Returns the tensors of real numbers in a model's outputs."""
    found = (tensor for _, tensor in tensors_in(outputs))
    return [t.detach().float().clone() for t in found if t.is_floating_point()]
