"""What several parts test with: a recipe that runs in seconds, its network and its images."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from torchcompress.data.idx import write_idx
from torchcompress.quantization import placement

TINY_RECIPE = """
schema = 1
name = "tiny"
description = "Four stages in seconds."

[model]
arch = "tiny_network:tiny"

[data]
dataset = "fashion-mnist"
root = "{root}"
image_size = 16
batch_size = 32
calibration = 64

[report]
latency = [{{ batch = 2, image_size = 20 }}]

[[stage]]
kind = "train"
epochs = 1

[[stage]]
kind = "prune.channels"
target = {{ channels = 0.5 }}

[[stage]]
kind = "distill"
epochs = 1
lr = 0.01
loss = [{{ name = "kd", options = {{ temperature = 2.0 }} }}, {{ name = "ce", weight = 0.5 }}]

[[stage]]
kind = "quantize.ptq"
"""


@pytest.fixture(scope="session", autouse=True)
def _integers_are_fast() -> Iterator[None]:
    """Keeps this machine's times out of every test that does not ask for them."""

    def seconds(call: placement.Call) -> float:
        return 1.0 if call.types[0] == "float" and call.weight is not None else 1e-3

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(placement, "call_seconds", seconds)
        yield


@pytest.fixture(scope="session")
def tiny_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a folder in the layout of Fashion-MNIST whose classes differ in brightness."""
    root = tmp_path_factory.mktemp("images")
    generator = torch.Generator().manual_seed(0)
    for split, count in (("train", 256), ("t10k", 100)):
        labels = torch.arange(count, dtype=torch.uint8) % 10
        noise = torch.randint(0, 30, (count, 28, 28), generator=generator)
        images = (noise + 22 * labels[:, None, None]).to(torch.uint8)
        write_idx(root / f"{split}-images-idx3-ubyte.gz", images)
        write_idx(root / f"{split}-labels-idx1-ubyte.gz", labels)
    return root


@pytest.fixture(scope="session")
def tiny_recipe(tiny_images: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Returns the file of a recipe of four stages whose network can be imported."""
    path = tmp_path_factory.mktemp("recipe") / "tiny.toml"
    path.write_text(TINY_RECIPE.format(root=tiny_images))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parent / "networks")
        yield path


@pytest.fixture
def process_group(tmp_path: Path) -> Iterator[None]:
    """Makes a distributed process group of this process alone."""
    store = f"file://{tmp_path / 'store'}"
    torch.distributed.init_process_group("gloo", init_method=store, rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()
