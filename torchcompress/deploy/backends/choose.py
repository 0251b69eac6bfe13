"""One module over whichever back end runs a model fastest here."""

from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from torchcompress.core.errors import CompressError, UnsupportedError, did_you_mean
from torchcompress.core.inputs import Inputs, call, tensors_in
from torchcompress.core.modules import undisturbed, unwrapped
from torchcompress.deploy.backends.compiled import BackendRow, CompiledModel
from torchcompress.deploy.backends.inductor import inductor
from torchcompress.deploy.backends.native import native
from torchcompress.deploy.backends.onnx_runtime import onnx_runtime
from torchcompress.deploy.onnx.parts import int8_parts
from torchcompress.metrics.latency import thread_count, time_in_turns
from torchcompress.quantization.check_model import refuse_prepared

Backend = Literal["native", "onnxruntime", "inductor"]
BACKENDS: tuple[Backend, ...] = get_args(Backend)
_TOLERANCE = 1e-3


def compile(
    model: nn.Module,
    x: Inputs,
    backend: Backend | Literal["auto"] = "auto",
    *,
    threads: int | None = None,
) -> CompiledModel:
    """Returns a copy of a model in the form that runs fastest on this CPU.

    - `native`: an int8 model runs its oneDNN calls, a float one eagerly, in channels_last where its
      code takes that.
    - `onnxruntime`: a session over the file that `export_onnx` would write. Needs the extra `onnx`.
    - `inductor`: `torch.compile` with constant weights; for float models, where a C++ compiler is
      at hand.
    - `auto`: all of these that are installed and right, measured in turns on `x`; the fastest one.
      `table()` of the result says what was measured, and why a back end was left out.

    Args:
        model: An int8, float, pruned or sparse model, or one with int8 parts, on the CPU; compiled
            in eval mode and left as it is.
        x: Example inputs. The batch may differ in later calls; measure with the one that matters.
        backend: A back end, or `auto`.
        threads: How many threads a session uses and the measurement allows; by default as many as
            torch uses now. A session keeps that number, the other back ends follow torch.

    Raises:
        UnsupportedError: The back end cannot run this model here, or the model is prepared for
            training and not converted.
        CompressError: An unknown back end, one that computes something else than the model, or
            inputs that the model does not take.
    """
    if backend not in (*BACKENDS, "auto"):
        hint = did_you_mean(str(backend), (*BACKENDS, "auto"))
        raise CompressError(f"{backend!r} is not a back end", where="backend", hint=hint)
    threads = torch.get_num_threads() if threads is None else threads
    if threads < 1:
        raise CompressError(f"{threads} is not a number of threads", where="threads")
    model = unwrapped(model)
    refuse_prepared(model)
    makers: dict[Backend, Callable[[], nn.Module]] = {
        "native": lambda: native(model, x),
        "onnxruntime": lambda: onnx_runtime(model, x, threads),
        "inductor": lambda: inductor(model, x),
    }
    with undisturbed(model), thread_count(threads):
        wanted = _outputs(model, x)
        if backend != "auto":
            made = _made(backend, makers[backend], model, x, wanted)
            return CompiledModel(backend, made, (BackendRow(backend),), model)
        return _fastest(makers, model, x, wanted)


def _outputs(model: nn.Module, x: Inputs) -> dict[str, Tensor]:
    try:
        return dict(tensors_in(call(model, x)))
    except (RuntimeError, TypeError, ValueError, LookupError) as error:
        raise CompressError(f"the model cannot run on it: {error}", where="x") from error


def _fastest(
    makers: dict[Backend, Callable[[], nn.Module]],
    model: nn.Module,
    x: Inputs,
    wanted: dict[str, Tensor],
) -> CompiledModel:
    made: dict[str, nn.Module] = {}
    notes: dict[str, str] = {}
    for name, make in makers.items():
        try:
            made[name] = _made(name, make, model, x, wanted)
        except CompressError as error:
            notes[name] = error.what
    if not made:
        raise UnsupportedError("no back end runs this model", where=type(model).__name__)
    timings = time_in_turns({name: lambda run=run: call(run, x) for name, run in made.items()})
    times = {name: timings.milliseconds(name) for name in made}
    choice = min(times, key=times.__getitem__)
    rows = tuple(BackendRow(n, times.get(n), notes.get(n, "")) for n in makers)
    return CompiledModel(choice, made[choice], rows, model)


def _made(
    backend: str,
    make: Callable[[], nn.Module],
    model: nn.Module,
    x: Inputs,
    wanted: dict[str, Tensor],
) -> nn.Module:
    """Returns a model in the form of a back end, once that is seen to compute the same."""
    try:
        made = make()
        # What ONNX Runtime makes of int8 values was compared when its file was made.
        checked = backend == "onnxruntime" and bool(int8_parts(model))
        got = wanted if checked else dict(tensors_in(call(made, x)))
    except CompressError:
        raise
    except Exception as error:  # A back end may fail in any way.
        first = (str(error).strip().splitlines() or [""])[0]
        raise UnsupportedError(
            f"cannot run this model: {type(error).__name__}: {first}", where=backend
        ) from error
    if wanted.keys() != got.keys() or not all(_close(got[n], wanted[n]) for n in wanted):
        raise CompressError(
            "computes something else than the model",
            where=backend,
            hint="use another back end, and report the model",
        )
    return made


def _close(got: Tensor, want: Tensor) -> bool:
    if got.shape != want.shape or got.dtype != want.dtype:
        return False
    if not want.numel():
        return True
    gap = (got.double() - want.double()).abs().max().item()
    return gap <= _TOLERANCE * want.double().abs().max().item()
