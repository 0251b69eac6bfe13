import pytest
import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode

from torchcompress.errors import TraceError, UnsupportedError
from torchcompress.graph import trace
from torchcompress.graph.checks import mismatch

x = torch.randn(1, 3, 4, 4)


def net() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 2, 1))


def test_tensors_without_numbers_are_refused() -> None:
    with pytest.raises(UnsupportedError, match=r"0\.weight: is a lazy, meta, fake or sparse"):
        trace(net().to("meta"), x)
    with FakeTensorMode():
        fake, fake_x = net(), torch.randn(1, 3, 4, 4)
    with pytest.raises(UnsupportedError, match=r"0\.weight"):
        trace(fake, x)
    for image in (x.to("meta"), fake_x):
        with pytest.raises(UnsupportedError, match="meta or fake tensor"):
            trace(net(), {"input": image})


def test_an_input_that_is_not_finite_is_refused() -> None:
    with pytest.raises(TraceError, match="not finite"):
        trace(net(), x / 0)


def test_an_input_of_another_dtype_names_both() -> None:
    with pytest.raises(TraceError, match=r"input is torch\.float32, the model is torch\.bfloat16"):
        trace(net().bfloat16(), x)


def test_an_input_on_another_device_names_both() -> None:
    assert mismatch(net().to("meta"), x) == "the input is on cpu, the model is on meta"
    assert mismatch(net(), x) is None


class Casting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = net().bfloat16()

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x.bfloat16()).float()


def test_a_model_that_casts_its_input_is_traced() -> None:
    assert len(trace(Casting(), x).contractions) == 2
