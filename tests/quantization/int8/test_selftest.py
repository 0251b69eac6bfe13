from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from torchcompress.quantization import quantize
from torchcompress.quantization.int8 import kernels, selftest


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    selftest.native_works.cache_clear()
    yield
    selftest.native_works.cache_clear()


def test_kernels_pass_here() -> None:
    assert selftest.native_works()


def test_a_wrong_kernel_means_the_reference_and_one_warning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    x = torch.randn(2, 3, 8, 8)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3)).eval()
    bind = kernels.bind

    def wrong(*args: object, **kwargs: object) -> object:
        function = bind(*args, **kwargs)  # pyright: ignore[reportArgumentType]
        return lambda *xs: function(*xs) + 2

    monkeypatch.setattr(kernels, "bind", wrong)
    with pytest.warns(RuntimeWarning, match="slow reference here: conv2d None is wrong") as seen:
        quantized = quantize(model, [x])
    assert len(seen) == 1
    assert torch.equal(quantized(x), quantized.reference()(x))


def test_a_missing_kernel_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*args: object, **kwargs: object) -> Tensor:
        raise AttributeError("no such op")

    monkeypatch.setattr(kernels, "bind", missing)
    with pytest.warns(RuntimeWarning, match="is missing .no such op"):
        assert not selftest.native_works()
