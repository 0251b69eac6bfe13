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

    - `native`: an int8 model runs its oneDNN calls, a float one eagerly in channels_last.
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
        UnsupportedError: The back end cannot run this model here.
        CompressError: An unknown back end, or one that computes something else than the model.
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
        "native": lambda: native(model),
        "onnxruntime": lambda: onnx_runtime(model, x, threads),
        "inductor": lambda: inductor(model, x),
    }
    with undisturbed(model), thread_count(threads):
        if backend != "auto":
            made = makers[backend]()
            _check(made, model, x, backend)
            return CompiledModel(backend, made, (BackendRow(backend),), model)
        return _fastest(makers, model, x)


def _fastest(
    makers: dict[Backend, Callable[[], nn.Module]], model: nn.Module, x: Inputs
) -> CompiledModel:
    made: dict[str, nn.Module] = {}
    notes: dict[str, str] = {}
    for name, make in makers.items():
        try:
            found = make()
            _check(found, model, x, name)
            made[name] = found
        except CompressError as error:
            notes[name] = error.what
    if not made:
        raise UnsupportedError("no back end runs this model", where=type(model).__name__)
    timings = time_in_turns({name: lambda run=run: call(run, x) for name, run in made.items()})
    times = {name: timings.milliseconds(name) for name in made}
    choice = min(times, key=times.__getitem__)
    rows = tuple(BackendRow(n, times.get(n), notes.get(n, "")) for n in makers)
    return CompiledModel(choice, made[choice], rows, model)


def _check(made: nn.Module, model: nn.Module, x: Inputs, backend: str) -> None:
    """Makes sure that a back end returns what the model does.

    What ONNX Runtime makes of int8 values was compared one by one when its file was made.
    """
    if int8_parts(model) and backend == "onnxruntime":
        return
    wanted, got = (dict(tensors_in(call(module, x))) for module in (model, made))
    same = wanted.keys() == got.keys() and all(_close(got[n], want) for n, want in wanted.items())
    if not same:
        raise CompressError(
            "computes something else than the model",
            where=backend,
            hint="use another back end, and report the model",
        )


def _close(got: Tensor, want: Tensor) -> bool:
    if got.shape != want.shape or got.dtype != want.dtype:
        return False
    if not want.numel():
        return True
    gap = (got.double() - want.double()).abs().max().item()
    return gap <= _TOLERANCE * want.double().abs().max().item()
