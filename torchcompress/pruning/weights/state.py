"""What a pruner of weights takes back when a training is resumed, checked."""

from collections.abc import Mapping
from typing import Any

from torchcompress.core.errors import CompressError


def check_state(state: Any, own: Mapping[str, Any], model: str) -> None:
    """Refuses a state that is not one of the same pruning of the same model.

    Args:
        state: What was given.
        own: What the pruner itself would save now.
        model: The model's class, for the error.

    Raises:
        CompressError: Other fields, another request, or masks of other weights.
    """
    if not isinstance(state, Mapping) or set(state) != set(own):
        raise CompressError(
            "is no state of a pruner of weights",
            where="load_state_dict",
            hint="give what pruner.state_dict() returned",
        )
    if state.get("asked") != own.get("asked"):
        raise CompressError(
            f"the training that is resumed asked for {state['asked']}, not {own['asked']}",
            where="target",
            hint="resume with the same pruner",
        )
    for field in {"kept", "scores"} & set(own):
        shapes, saved = (
            {name: tuple(tensor.shape) for name, tensor in each[field].items()}
            for each in (own, state)
        )
        if shapes != saved:
            raise CompressError("the training that is resumed is of another model", where=model)
