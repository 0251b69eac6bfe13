from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from torchcompress.quantization import interpreter
from torchcompress.quantization.program import Program
from torchcompress.quantization.sources import folded_tensors
from torchcompress.quantization.trace import trace

Traced = Callable[..., Program]


@pytest.fixture
def traced() -> Traced:
    """Traces a module or function, compares program and module on inputs, gives the program."""

    def check(model: Any, *inputs: Tensor) -> Program:
        module = model if isinstance(model, nn.Module) else Function(model)
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.1)
        module.eval()
        program, sources = trace(module)
        tensors = folded_tensors(sources, module.state_dict())
        for x in inputs:
            with torch.no_grad():
                want, got = module(x), interpreter.run(program, tensors, [x])
            torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)
        return program

    return check


class Function(nn.Module):
    """A function of one tensor, as a module with a little of its own."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function
        self.gate = nn.Parameter(torch.randn(4, 1))
        self.register_buffer("index", torch.tensor([2, 0, 3]))
        self.register_buffer("table", torch.randn(4, 5), persistent=False)

    def forward(self, x: Tensor) -> Any:
        few = self.function.__code__.co_argcount == 1
        return self.function(x) if few else self.function(x, self)
