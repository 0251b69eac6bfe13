import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, RandomSampler

from torchcompress.core.errors import ArtifactError, CompressError
from torchcompress.training import EMA, Callback, Run, Trainer, TrainerConfig

Make = Callable[..., Any]


class _Stop(Exception):
    """Stands for the power cut."""


class _StopAt(Callback):
    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_epoch_start(self, run: Run) -> None:
        if run.epoch == self.epoch:
            raise _Stop


_FULL = TrainerConfig(
    epochs=4,
    lr=0.05,
    warmup_epochs=1.5,
    ema_decay=0.9,
    amp="bf16",
    mixup_alpha=0.2,
    clip_norm=1.0,
)


def _interrupt(model: nn.Module, loader: Any, config: TrainerConfig, path: Path) -> None:
    with pytest.raises(_Stop):
        Trainer(model, loader, loader, config, callbacks=[_StopAt(2)], checkpoint=path).fit()


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_four_epochs_equal_two_and_two_resumed_bit_for_bit(
    tmp_path: Path, make_model: Make, make_loader: Make, optimizer: str
) -> None:
    config = TrainerConfig(**{**_FULL.__dict__, "optimizer": optimizer})
    whole, halved, resumed = make_model(), make_model(), make_model()
    loader = make_loader()
    straight = Trainer(whole, loader, loader, config).fit()
    path = tmp_path / "run.pt"
    _interrupt(halved, loader, config, path)
    nn.init.zeros_(resumed[0].weight)
    torch.manual_seed(77)
    result = Trainer(
        resumed, loader, loader, config, callbacks=[_StopAt(9)], checkpoint=path, resume=True
    ).fit()
    assert [row["epoch"] for row in result.history] == [1, 2, 3, 4]
    assert [row["loss"] for row in result.history] == [row["loss"] for row in straight.history]
    assert result.last_accuracy == straight.last_accuracy
    expected = whole.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in resumed.state_dict().items())


@pytest.mark.parametrize("in_sampler", [False, True])
def test_the_loader_s_own_generator_resumes_too(
    tmp_path: Path, make_model: Make, make_loader: Make, in_sampler: bool
) -> None:
    data = make_loader().dataset

    def own() -> DataLoader[Any]:
        generator = torch.Generator().manual_seed(3)
        if in_sampler:
            return DataLoader(data, 16, sampler=RandomSampler(data, generator=generator))
        return DataLoader(data, 16, shuffle=True, generator=generator)

    whole, resumed, loader = make_model(), make_model(), own()
    Trainer(whole, loader, loader, _FULL).fit()
    _interrupt(make_model(), own(), _FULL, tmp_path / "run.pt")
    _resume(resumed, own(), tmp_path / "run.pt")
    expected = whole.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in resumed.state_dict().items())


def test_resuming_a_finished_training_gives_its_result(
    tmp_path: Path, make_model: Make, make_loader: Make
) -> None:
    path = tmp_path / "run.pt"
    model, other = make_model(), make_model()
    first = Trainer(model, make_loader(), make_loader(), _FULL, checkpoint=path).fit()
    again = Trainer(other, make_loader(), make_loader(), _FULL, checkpoint=path, resume=True).fit()
    assert again.history == first.history
    expected = model.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in other.state_dict().items())


def _resume(model: nn.Module, loader: Any, path: Path, **kwargs: Any) -> None:
    arguments = {"config": _FULL, "callbacks": [_StopAt(9)]} | kwargs
    Trainer(model, loader, loader, checkpoint=path, resume=True, **arguments).fit()


def test_a_checkpoint_of_another_training_is_refused_and_changes_nothing(
    tmp_path: Path, make_model: Make, make_loader: Make
) -> None:
    path, loader = tmp_path / "run.pt", make_loader()
    _interrupt(make_model(), loader, _FULL, path)

    other = nn.Sequential(*make_model()[:-1], nn.Linear(8, 5))
    with pytest.raises(
        ArtifactError, match=r"6\.weight is float32 \(4, 8\) there and .* \(5, 8\) here"
    ):
        _resume(other, loader, path)
    with pytest.raises(ArtifactError, match=r"is float32 \(.*\) there and float64 \(.*\) here"):
        _resume(make_model().double(), loader, path)
    with pytest.raises(ArtifactError, match="loader has 3 batches, this one 6 batches"):
        _resume(make_model(), make_loader(batch_size=8), path)
    own = DataLoader(loader.dataset, 16, shuffle=True, generator=torch.Generator())
    with pytest.raises(ArtifactError, match=r"has 0 random generators .* this one 1"):
        _resume(make_model(), own, path)
    with pytest.raises(ArtifactError, match=r"lr=0\.05, not 0\.1"):
        _resume(make_model(), loader, path, config=TrainerConfig(**{**_FULL.__dict__, "lr": 0.1}))
    with pytest.raises(ArtifactError, match="callbacks"):
        _resume(make_model(), loader, path, callbacks=[EMA(0.5)])
    frozen = make_model()
    frozen[6].bias.requires_grad_(False)
    before: dict[str, Tensor] = {n: t.clone() for n, t in frozen.state_dict().items()}
    with pytest.raises(ArtifactError, match="trained 5 parameters, this training 4"):
        _resume(frozen, loader, path)
    assert all(torch.equal(tensor, before[name]) for name, tensor in frozen.state_dict().items())


def test_a_missing_or_damaged_file_is_named(
    tmp_path: Path, make_model: Make, make_loader: Make
) -> None:
    path, loader = tmp_path / "run.pt", make_loader()
    with pytest.raises(ArtifactError, match=r"run\.pt: there is no checkpoint"):
        _resume(make_model(), loader, path)
    _interrupt(make_model(), loader, _FULL, path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ArtifactError, match=r"run\.pt: this is not a sound checkpoint"):
        _resume(make_model(), loader, path)
    _interrupt(model := make_model(), loader, _FULL, path)
    content = bytearray(path.read_bytes())
    content[content.index(model[6].weight.detach().numpy().tobytes()) + 5] ^= 1
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match="does not match its checksum"):
        _resume(make_model(), loader, path)
    torch.save({"weight": torch.zeros(1)}, path)
    with pytest.raises(ArtifactError, match="not a checkpoint of a training"):
        _resume(make_model(), loader, path)
    _interrupt(make_model(), loader, _FULL, path)
    sound = torch.load(path, weights_only=True)
    for name in sound.keys() - {"format"}:
        for broken in ({**sound, name: None}, {n: v for n, v in sound.items() if n != name}):
            torch.save(broken, path)
            with pytest.raises(ArtifactError, match=f"not a sound checkpoint: {name} is NoneType"):
                _resume(make_model(), loader, path)
    for odd in ({"optimizer": {}}, {"callbacks": [3]}, {"loader": {"steps": 3, "generators": 0}}):
        torch.save(sound | odd, path)
        with pytest.raises(ArtifactError, match="not a sound checkpoint"):
            _resume(make_model(), loader, path)
    with pytest.raises(CompressError, match="no file to resume from"):
        Trainer(make_model(), loader, resume=True)


def test_a_file_that_would_run_code_is_refused(
    tmp_path: Path, make_model: Make, make_loader: Make
) -> None:
    class Hostile:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "owned"),)

    torch.save({"format": 1, "model": Hostile()}, tmp_path / "run.pt")
    with pytest.raises(ArtifactError, match="not a sound checkpoint"):
        _resume(make_model(), make_loader(), tmp_path / "run.pt")
    assert not (tmp_path / "owned").exists()


def test_a_full_disk_leaves_the_checkpoint_before_intact(
    tmp_path: Path, make_model: Make, make_loader: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run.pt"
    _interrupt(make_model(), make_loader(), _FULL, path)
    old = path.read_bytes()

    def full(_: Any, target: Path) -> None:
        target.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(CompressError, match="No space left"):
        Trainer(make_model(), make_loader(), config=_FULL, checkpoint=path).fit()
    assert path.read_bytes() == old
    assert [p.name for p in tmp_path.iterdir()] == ["run.pt"]
