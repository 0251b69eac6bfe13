import pytest

from torchcompress.core.errors import CompressError
from torchcompress.quantization import QuantizationConfig


def test_presets() -> None:
    assert QuantizationConfig.preset("default") == QuantizationConfig(ranges="mse")
    fast = QuantizationConfig.preset("fast")
    assert (fast.ranges, fast.rounding, fast.placement) == ("minmax", "nearest", "all")
    assert not fast.learns
    assert QuantizationConfig().learns


def test_unknown_names() -> None:
    with pytest.raises(CompressError, match="did you mean 'fast'"):
        QuantizationConfig.preset("fats")
    with pytest.raises(CompressError, match=r"config\.ranges: 'mean' is not a way"):
        QuantizationConfig(ranges="mean")  # pyright: ignore[reportArgumentType]
    with pytest.raises(CompressError, match=r"config\.rounding: 'gtpq'.*\n.*did you mean 'gptq'"):
        QuantizationConfig(rounding="gtpq")  # pyright: ignore[reportArgumentType]
    with pytest.raises(CompressError, match=r"config\.placement: 'al' is not a placement"):
        QuantizationConfig(placement="al")  # pyright: ignore[reportArgumentType]
    with pytest.raises(CompressError, match="config: 3 is not a preset"):
        QuantizationConfig.preset(3)  # pyright: ignore[reportArgumentType]
