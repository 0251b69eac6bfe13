import hashlib
import json
import pickle
import random
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from int8_networks import Branching, both_ways, quantize_partly, quantize_whole
from torch import Tensor, fx, nn

from torchcompress import Target, history
from torchcompress.core.history import Architecture, remember_architecture
from torchcompress.core.plan import plan_to_json
from torchcompress.deploy import load, read_manifest, save
from torchcompress.deploy.container import read_container
from torchcompress.errors import ArtifactError, CompressError, UnsupportedError
from torchcompress.pruning import prune_channels
from torchcompress.quantization import PartlyInt8Model


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 16, 3, padding=1)
        self.norm = nn.BatchNorm2d(16)
        self.a, self.b = nn.Conv2d(16, 16, 1), nn.Conv2d(16, 16, 1)
        self.b.weight = self.a.weight
        self.head = nn.Conv2d(16, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.b(self.a(self.norm(self.first(x)).relu()).relu()))


x = torch.randn(2, 3, 8, 8)


def same_bits(a: nn.Module, b: nn.Module) -> bool:
    left, right = a.state_dict(), b.state_dict()
    return list(left) == list(right) and all(torch.equal(left[n], right[n]) for n in left)


@pytest.fixture
def pruned() -> Tied:
    torch.manual_seed(0)
    return prune_channels(Tied().eval(), x, Target(macs=0.5), round_to=1)


def test_a_pruned_model_comes_back_with_its_shapes_ties_and_history(
    pruned: Tied, tmp_path: Path
) -> None:
    save(pruned, tmp_path / "m.tcz", input_shape=(3, 8, 8), measurements={"accuracy": 0.5})
    again = load(tmp_path / "m.tcz", model=Tied())
    assert isinstance(again, Tied)
    assert same_bits(pruned, again)
    assert again.b.weight is again.a.weight
    assert torch.equal(again(x), pruned(x))
    assert [plan_to_json(p) for p in history(again)] == [plan_to_json(p) for p in history(pruned)]
    manifest = read_manifest(tmp_path / "m.tcz")
    assert manifest.input_shape == [3, 8, 8]
    assert manifest.measurements == {"accuracy": 0.5}
    assert manifest.aliases == {"b.weight": "a.weight"}


def test_equal_models_make_equal_files(pruned: Tied, tmp_path: Path) -> None:
    save(pruned, tmp_path / "a.tcz")
    save(pruned, tmp_path / "b.tcz")
    assert (tmp_path / "a.tcz").read_bytes() == (tmp_path / "b.tcz").read_bytes()


def test_each_tensor_keeps_its_dtype(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)).eval()
    model[0].half()
    save(model, tmp_path / "m.tcz")
    again = load(tmp_path / "m.tcz", model=nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)))
    assert [p.dtype for p in again.parameters()] == [torch.float16] * 2 + [torch.float32] * 2


LOAD = """
import sys, torch, torch.fx, time
def forbidden(*args, **kwargs): raise AssertionError("traced or timed at load")
import torchcompress.deploy as deploy
torch.fx.Tracer.trace = forbidden
time.perf_counter = forbidden
model = deploy.load(sys.argv[1])
x = torch.load(sys.argv[2], weights_only=True)
torch.save(model(x), sys.argv[3])
"""


def test_an_int8_resnet_runs_bit_equal_in_a_new_process_without_tracing(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = torchvision.models.resnet18(weights=None, num_classes=10).eval()
    remember_architecture(model, Architecture("resnet18", {"num_classes": 10}))
    image = torch.randn(4, 3, 32, 32)
    model = prune_channels(model, image, Target(macs=0.3))
    model = quantize_whole(model, [image])
    save(model, tmp_path / "m.tcz")
    torch.save(image, tmp_path / "x.pt")
    paths = [str(tmp_path / name) for name in ("m.tcz", "x.pt", "y.pt")]
    subprocess.run([sys.executable, "-c", LOAD, *paths], check=True, timeout=300)
    found = torch.load(tmp_path / "y.pt", weights_only=True)
    assert torch.equal(found, model(image))
    again = load(tmp_path / "m.tcz")
    assert [p.kind for p in history(again)] == ["prune.channels", "quantization"]
    whole = sum(t.numel() for t in model.tensors.values())
    assert (tmp_path / "m.tcz").stat().st_size < 1.1 * whole


def test_an_artifact_holds_no_pickle(pruned: Tied, tmp_path: Path) -> None:
    save(pruned, tmp_path / "m.tcz")
    with zipfile.ZipFile(tmp_path / "m.tcz") as file:
        assert sorted(file.namelist()) == ["manifest.json", "tensors.bin"]
        json.loads(file.read("manifest.json"))


def test_without_architecture_the_load_asks_for_the_model(pruned: Tied, tmp_path: Path) -> None:
    save(pruned, tmp_path / "m.tcz")
    with pytest.raises(ArtifactError, match=r"does not say how[\s\S]*model=MyModel"):
        load(tmp_path / "m.tcz")
    with pytest.raises(ArtifactError, match="does not fit the model"):
        load(tmp_path / "m.tcz", model=nn.Linear(2, 2))


@pytest.mark.parametrize(
    "arguments",
    [{"args": {"norm_layer": nn.BatchNorm2d}}, {"measurements": {"a": torch.tensor(1.0)}},
     {"input_shape": (3.5, 2)}],
    ids=lambda a: next(iter(a)),
)  # fmt: skip
def test_what_is_not_json_cannot_be_saved(arguments: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="cannot be stored"):
        save(nn.Linear(2, 2), tmp_path / "m.tcz", arch="torch.nn:Linear", **arguments)
    assert list(tmp_path.iterdir()) == []


def test_code_outside_torchvision_is_not_run_unasked(tmp_path: Path) -> None:
    model = nn.Linear(2, 3)
    args = {"in_features": 2, "out_features": 3}
    save(model, tmp_path / "m.tcz", arch="torch.nn:Linear", args=args)
    with pytest.raises(UnsupportedError, match="trusted"):
        load(tmp_path / "m.tcz")
    assert same_bits(load(tmp_path / "m.tcz", trust=["torch.nn:Linear"]), model)


def test_a_folder_that_is_not_there_is_an_error_and_a_failed_save_keeps_the_old_file(
    pruned: Tied, tmp_path: Path
) -> None:
    with pytest.raises(ArtifactError, match="cannot be written"):
        save(pruned, tmp_path / "nowhere" / "m.tcz")
    save(pruned, tmp_path / "m.tcz")
    before = (tmp_path / "m.tcz").read_bytes()
    bad = nn.Linear(2, 2)
    bad.register_buffer("phase", torch.zeros(2, dtype=torch.complex64))
    with pytest.raises(ArtifactError, match="complex64"):
        save(bad, tmp_path / "m.tcz")
    assert (tmp_path / "m.tcz").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["m.tcz"]


def test_a_missing_file_a_pickle_and_a_strange_zip_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no such file"):
        load(tmp_path / "none.tcz")
    (tmp_path / "pickle.tcz").write_bytes(pickle.dumps({"a": 1}))
    torch.save({"a": torch.zeros(2)}, tmp_path / "torch.tcz")
    (tmp_path / "text.tcz").write_text("hello")
    (tmp_path / "empty.tcz").write_bytes(b"")
    for path in sorted(tmp_path.iterdir()):
        with pytest.raises(ArtifactError, match=path.name):
            load(path)


def test_a_truncated_file_is_refused_wherever_it_ends(pruned: Tied, tmp_path: Path) -> None:
    save(pruned, tmp_path / "m.tcz")
    whole = (tmp_path / "m.tcz").read_bytes()
    for length in range(0, len(whole), max(1, len(whole) // 50)):
        (tmp_path / "cut.tcz").write_bytes(whole[:length])
        with pytest.raises(ArtifactError):
            load(tmp_path / "cut.tcz", model=Tied())


def test_a_flipped_bit_is_an_error_or_changes_nothing(pruned: Tied, tmp_path: Path) -> None:
    save(pruned, tmp_path / "m.tcz")
    whole = bytearray((tmp_path / "m.tcz").read_bytes())
    generator = random.Random(0)
    refused = 0
    for _ in range(300):
        position = generator.randrange(len(whole))
        flipped = bytearray(whole)
        flipped[position] ^= 1 << generator.randrange(8)
        (tmp_path / "flipped.tcz").write_bytes(flipped)
        try:
            again = load(tmp_path / "flipped.tcz", model=Tied())
        except ArtifactError:
            refused += 1
        else:
            assert same_bits(again, pruned)
    assert refused > 250


def rewritten(source: Path, target: Path, **changes: object) -> Path:
    with zipfile.ZipFile(source) as file:
        manifest = json.loads(file.read("manifest.json"))
        block = file.read("tensors.bin")
    manifest.update(changes)
    with zipfile.ZipFile(target, "w") as file:
        file.writestr("manifest.json", json.dumps(manifest))
        file.writestr("tensors.bin", block)
    return target


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "zip"}, "not one of torchcompress"),
        ({"version": 99}, "format version 99"),
        ({"surprise": 1}, "surprise"),
        ({"tensors": []}, "are declared"),
        ({"aliases": {"a": "b"}}, "tied"),
        ({"plans": [{"kind": "none"}]}, "not a kind of plan"),
        ({"plans": [{"kind": "prune.channels"}]}, "plan cannot be read"),
        ({"program": {"ops": []}}, "program"),
    ],
)
def test_a_manifest_that_lies_is_refused(
    pruned: Tied, tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    save(pruned, tmp_path / "m.tcz")
    with pytest.raises(CompressError, match=message):
        load(rewritten(tmp_path / "m.tcz", tmp_path / "lie.tcz", **changes), model=Tied())


def test_a_file_of_the_first_format_is_still_read(pruned: Tied, tmp_path: Path) -> None:
    save(pruned, tmp_path / "m.tcz")
    manifest, tensors = read_container(tmp_path / "m.tcz")
    blocks = [zlib.compress(tensor.numpy().tobytes(), 9) for tensor in tensors.values()]
    offset, described = 0, json.loads(manifest.model_dump_json())
    for stored, block in zip(described["tensors"], blocks, strict=True):
        digest = hashlib.sha256(block).hexdigest()
        stored |= {"encoding": "deflate", "offset": offset, "length": len(block), "sha256": digest}
        offset += len(block)
    with zipfile.ZipFile(tmp_path / "old.tcz", "w") as file:
        file.writestr("manifest.json", json.dumps(described | {"version": 1}))
        file.writestr("tensors.bin", b"".join(blocks))
    assert same_bits(load(tmp_path / "old.tcz", model=Tied()), pruned)


def test_a_manifest_nested_without_end_is_refused(pruned: Tied, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "deep.tcz", "w") as file:
        file.writestr("manifest.json", "[" * 200_000)
        file.writestr("tensors.bin", b"")
    with pytest.raises(ArtifactError):
        load(tmp_path / "deep.tcz")


def test_a_model_with_int8_parts_comes_back_bit_equal_without_tracing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    model, data, path = Branching().eval(), both_ways(), tmp_path / "m.tcz"
    made = quantize_partly(model, data)
    save(made, path)
    monkeypatch.setattr(fx.Tracer, "trace", None)
    loaded = load(path, model=Branching())
    assert isinstance(loaded, PartlyInt8Model)
    assert all(torch.equal(loaded(x), made(x)) for x in data)
    assert loaded.table() == made.table()
    assert loaded.split == made.split
    assert history(loaded) == history(made)
    assert not loaded.training
    save(loaded, tmp_path / "again.tcz")
    assert (tmp_path / "again.tcz").read_bytes() == path.read_bytes()
    with pytest.raises(ArtifactError, match=r"does not fit the model .*no such module"):
        load(path, model=nn.ModuleDict({"stem": nn.Identity()}))
    with pytest.raises(ArtifactError, match="pass a fresh model"):
        load(path)


class Guarded(Tied):
    """Looks at the values of its input first, so that it cannot be read whole."""

    def forward(self, x: Tensor) -> Tensor:
        if float(x.amax()) > 1e6:
            raise ValueError("too large")
        return super().forward(x)


def test_int8_parts_of_a_pruned_model_come_back(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = prune_channels(Guarded().eval(), x, Target(channels=0.5), round_to=1)
    made = quantize_partly(model, [x])
    save(made, tmp_path / "m.tcz")
    loaded = load(tmp_path / "m.tcz", model=Guarded())
    assert [plan.kind for plan in history(loaded)] == ["prune.channels", "quantization"]
    assert torch.equal(loaded(x), made(x))
