import pytest
import torch

from torchcompress.quantization.sqnr import sqnr


def test_known_ratios() -> None:
    signal = torch.ones(100)
    assert sqnr(signal, signal * 1.1) == pytest.approx(20, abs=1e-4)
    assert sqnr(signal, signal * 0.99) == pytest.approx(40, abs=1e-3)
    assert sqnr(signal, signal) is None
    assert sqnr(torch.zeros(3), torch.ones(3)) is None
