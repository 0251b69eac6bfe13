"""Watching one real run of a model and letting labels flow through it."""

from torch import nn

from torchcompress.core.errors import TraceError
from torchcompress.core.inputs import Inputs
from torchcompress.core.modules import shadow, unwrapped
from torchcompress.graph.checks import check_inputs, check_model
from torchcompress.graph.record import Trace
from torchcompress.graph.running import Conditions, on_the_way
from torchcompress.graph.steady import check_steady
from torchcompress.graph.training_branches import branches_in_training, training_readers
from torchcompress.graph.watcher import Watcher


def trace(model: nn.Module, x: Inputs, *, attention: str = "heads") -> Trace:
    """Runs a model once on example inputs and follows every channel through it.

    The run is in eval mode without gradients; the model is left as it was.

    Args:
        model: Any model. Of a compiled or parallel one the model inside is followed.
        x: Example inputs.
        attention: What goes of an attention: whole `heads`, or `head_dims`, the same ones in each
            head.

    Raises:
        UnsupportedError: The model is scripted, or holds lazy, meta, fake or sparse tensors.
        TraceError: The model fails on `x`, or `x` is not finite.
    """
    model = unwrapped(model)
    check_model(model)
    check_inputs(x)
    try:
        return _watched(model, x, attention, gradients=False)
    except TraceError as error:
        if "grad" not in str(error.__cause__):
            raise
        return _watched(model, x, attention, gradients=True)


def _watched(original: nn.Module, x: Inputs, attention: str, *, gradients: bool) -> Trace:
    model = shadow(original)
    tracer = Watcher(model, attention)
    seen = tracer.watch(model, x, Conditions(gradients=gradients))
    if tracer.drew:
        check_steady(original, x, seen.conditions, tracer.steps)
    steps, unread, training = tracer.steps, tracer.unread(), None
    paths = on_the_way(unread, model)
    readers = training_readers(model)
    if not set(readers) <= set(paths) and branches_in_training(
        original, x, Conditions(readers, gradients), steps
    ):
        paths = tuple(dict.fromkeys((*paths, *readers)))
    if paths:
        try:
            training = tracer.watch(model, x, Conditions(paths, gradients))
        except TraceError:  # Training takes more than the example input, so nothing is known of it.
            training = None
        unread = tracer.unread()
    return tracer.settled(seen, training, unread)
