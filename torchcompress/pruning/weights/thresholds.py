"""The choice of the weights that go by a threshold on their magnitude."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from torchcompress.core.errors import CompressError, did_you_mean
from torchcompress.pruning.layer_globs import covers, globs
from torchcompress.pruning.weights.choice import Masks
from torchcompress.pruning.weights.pattern import Block
from torchcompress.pruning.weights.selection import Selection
from torchcompress.pruning.weights.units import spread, unit_scores
from torchcompress.training.config import check_number

_WHERE = "target"


@dataclass(frozen=True)
class ThresholdChoice:
    """Chooses the units whose magnitude is below a threshold (Han et al., 2015).

    On the way there the threshold rises: after a fraction of the way it is that fraction of it.

    Attributes:
        selection: The weights that may go.
        thresholds: On |w|, by the name of the weight; others stay.
        pattern: Which weights go together; the magnitude of a block is the mean of its weights'.
    """

    selection: Selection
    thresholds: Mapping[str, float]
    pattern: Block | None = None

    @property
    def scope(self) -> None:
        """None: no weights compete."""

    def __call__(self, scores: Mapping[str, Tensor], kept: Masks, fraction: float) -> Masks:
        """Returns the masks after a fraction of the way.

        What is gone stays gone. The largest unit of each layer stays.

        Args:
            scores: The magnitude of each weight, by name.
            kept: The masks so far.
            fraction: How far to be, above 0.
        """
        masks = dict(kept)
        for weight in self.selection.free:
            if weight.name in self.thresholds:
                units = unit_scores(weight, scores[weight.name], self.pattern)
                gone = units < fraction * self.thresholds[weight.name]
                gone[units.argmax()] = False
                masks[weight.name] = kept[weight.name] & ~spread(weight, gone, self.pattern)
        return masks

    def check(self, scores: Mapping[str, Tensor], kept: Masks) -> None:
        """Refuses thresholds that take nothing, or all that a layer has.

        Args:
            scores: The magnitude of each weight, by name.
            kept: The masks so far.

        Raises:
            CompressError: The useful range is given.
        """
        for threshold in dict.fromkeys(self.thresholds.values()):
            ranges = {
                weight.name: unit_scores(weight, scores[weight.name], self.pattern).aminmax()
                for weight in self.selection.free
                if self.thresholds.get(weight.name) == threshold
            }
            low = min(float(each.min) for each in ranges.values())
            first = min(ranges, key=lambda name: float(ranges[name].max))
            high = float(ranges[first].max)
            useful = f"give a number above {low:.4g} and up to {high:.4g}"
            if threshold > high:
                raise CompressError(
                    f"a threshold of {threshold:g} takes all of {first}, whose largest magnitude "
                    f"is {high:.4g}",
                    where=_WHERE,
                    hint=f"{useful}, or one for each layer: {{'layer1.*': 0.01}}",
                )
            if threshold <= low:
                raise CompressError(
                    f"a threshold of {threshold:g} takes nothing away", where=_WHERE, hint=useful
                )


def thresholds_of(given: float | Mapping[str, float], selection: Selection) -> dict[str, float]:
    """Returns the threshold of each free weight that has one, by name.

    Args:
        given: One for all, or by glob over module paths and weight names; where several globs
            match, the last one counts.
        selection: The weights that may go.

    Raises:
        CompressError: A threshold that is no number above 0, or a glob that matches no weight that
            may go.
    """
    names = [weight.name for weight in selection.free]
    if not isinstance(given, Mapping):
        check_number(_WHERE, given, above=0)
        return dict.fromkeys(names, float(given))
    if not given:
        raise CompressError("holds no threshold", where=_WHERE)
    found: dict[str, float] = {}
    for pattern, threshold in given.items():
        where = f"{_WHERE}[{pattern!r}]"
        globs([pattern], where)
        hit = [name for name in names if covers(pattern, name)]
        if not hit:
            raise CompressError(
                f"{pattern!r} matches no weight that may go",
                where=where,
                hint=did_you_mean(pattern, (weight.layer for weight in selection.free)),
            )
        check_number(where, threshold, above=0)
        found.update(dict.fromkeys(hit, float(threshold)))
    return found
