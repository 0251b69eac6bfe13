"""Nested arguments: what a call looks like, and how a program takes it."""

from collections import OrderedDict
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from torchcompress.quantization import interpreter
from torchcompress.quantization.binding import ObservedCall, bind_inputs
from torchcompress.quantization.parse import parse_program
from torchcompress.quantization.sources import folded_tensors
from torchcompress.quantization.trace import trace


class Heads(nn.Module):
    """A detector's head: one convolution over a list of maps and a dict of others."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 1)

    def forward(
        self, maps: list[Tensor], more: dict[str, Tensor], scale: float = 1.0, **named: Any
    ) -> Any:
        made = [self.conv(x) * scale for x in maps]
        rest = OrderedDict((key, self.conv(x)) for key, x in more.items())
        return made, rest, None, {"extra": [self.conv(x) for x in named.values()]}


def x(size: int) -> Tensor:
    return torch.randn(2, 3, size, size)


def same(got: Any, want: Any) -> bool:
    if isinstance(want, Tensor):
        return torch.allclose(got, want, atol=1e-6)
    if isinstance(want, dict):
        pairs = [(got[key], want[key]) for key in want]
        return type(got) is type(want) and list(got) == list(want) and all(same(*p) for p in pairs)
    if isinstance(want, list | tuple):
        return type(got) is type(want) and all(map(same, got, want))
    return got == want


def test_nested_arguments_and_results_keep_their_containers() -> None:
    model = Heads().eval()
    args, kwargs = ([x(4), x(2)], {"pool": x(1)}), {"scale": 2.0, "late": x(3)}
    call = ObservedCall.of(model, args, kwargs)
    program, sources = trace(model, call=call)
    assert [path for path, _ in program.inputs] == ["maps[0]", "maps[1]", "more.pool", "named.late"]
    assert program.call is not None
    assert program.call.constants == {"scale": 2.0}
    assert parse_program(program.to_json()) == program
    tensors = folded_tensors(sources, model.state_dict())
    again = ([x(5), x(3)], {"pool": x(2)})
    with torch.no_grad():
        for given, named in (((args), kwargs), (again, {"late": x(1), "scale": 2.0})):
            inputs = bind_inputs(program, given, named)
            assert same(interpreter.run(program, tensors, inputs), model(*given, **named))


def test_calls_are_equal_where_they_could_be_exchanged() -> None:
    model = Heads()
    first = ObservedCall.of(model, ([x(4)], {}), {})
    assert first == ObservedCall.of(model, ([x(9)],), {"more": {}})
    assert first != ObservedCall.of(model, ((x(4),), {}), {})
    assert first != ObservedCall.of(model, ([x(4), x(4)], {}), {})
    assert first != ObservedCall.of(model, ([x(4)], {}, 2.0), {})


def test_another_call_than_the_traced_one_is_refused() -> None:
    model = Heads().eval()
    program, _ = trace(model, call=ObservedCall.of(model, ([x(4)], {}, 2.0), {}))
    assert len(bind_inputs(program, ([x(4)], {}, 2.0), {})) == 1
    with pytest.raises(TypeError, match=r"'scale' is 3\.0, the program is for 2\.0"):
        bind_inputs(program, ([x(4)], {}, 3.0), {})
    for args, kwargs in (
        (([x(4), x(4)], {}, 2.0), {}),
        (([x(4)], {}), {}),
        (([x(4)], {}, 2.0, 1), {}),
        (([x(4)], {}, 2.0), {"scale": 2.0}),
        (([x(4)], {}, 2.0), {"other": x(4)}),
    ):
        with pytest.raises(TypeError, match="takes the inputs"):
            bind_inputs(program, args, kwargs)
    with pytest.raises(TypeError, match=r"'maps\[0\]' must be a floating-point tensor"):
        bind_inputs(program, ([3], {}, 2.0), {})
    with pytest.raises(TypeError, match=r"'maps\[0\]' must be a floating-point tensor"):
        bind_inputs(program, ([torch.ones(2, dtype=torch.int64)], {}, 2.0), {})


def test_an_argument_that_no_program_can_hold_is_named() -> None:
    class Odd(nn.Module):
        def forward(self, x: Any, *rest: Any) -> Any:
            return x

    with pytest.raises(ValueError, match=r"the argument 'rest\[0\]' is object"):
        ObservedCall.of(Odd(), (x(2), object()), {})
    with pytest.raises(ValueError, match="the argument 'x' is max"):
        ObservedCall.of(Odd(), (torch.max(x(2), 1),), {})


def test_arguments_without_names_of_their_own() -> None:
    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 2, 1)

        def forward(self, *maps: Tensor, skip: Tensor) -> Tensor:
            return self.conv(maps[0] + maps[1]) + skip

    model, args, skip = Sum().eval(), (x(2), x(2)), torch.randn(2, 2, 2, 2)
    program, sources = trace(model, call=ObservedCall.of(model, args, {"skip": skip}))
    inputs = bind_inputs(program, args, {"skip": skip})
    tensors = folded_tensors(sources, model.state_dict())
    with torch.no_grad():
        got = interpreter.run(program, tensors, inputs)
        assert same(got, model(*args, skip=skip))


def test_a_module_inside_a_model_is_read_under_the_names_of_the_model() -> None:
    inner = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU())
    model = nn.ModuleDict({"body": nn.Sequential(inner), "tail": nn.Conv2d(4, 2, 1)}).eval()
    for path, name in (("body.0", "body.0.0"), ("tail", "tail")):
        module = model.get_submodule(path)
        given = torch.randn(1, 3 if path != "tail" else 4, 2, 2)
        program, sources = trace(model, path, ObservedCall.of(module, (given,), {}))
        assert program.ops[0].name == name
        assert f"{name}.weight" in sources[name].expected_shapes()
        assert program.call is None
        tensors = folded_tensors(sources, model.state_dict())
        with torch.no_grad():
            assert same(interpreter.run(program, tensors, [given]), module(given))
