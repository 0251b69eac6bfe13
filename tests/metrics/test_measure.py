import json
from pathlib import Path

import torch
from torch import nn

from torchcompress.metrics.latency import LatencySetting
from torchcompress.metrics.measure import Measurement, compare, measure


def classifier(width: int) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, width, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(width * 16, 2)
    )


X = torch.randn(4, 3, 4, 4)


def test_the_numbers_of_a_small_network_in_closed_form() -> None:
    model = classifier(8)
    labels = model(X).argmax(1)
    labels[0] = 1 - labels[0]
    found = measure(model, X, loader=[(X, labels)], settings=[LatencySetting(batch=2)])
    assert found.accuracy == 0.75
    assert found.params == 3 * 8 * 9 + 8 + 8 * 16 * 2 + 2
    assert found.file_bytes == 4 * found.params
    assert found.macs == 3 * 8 * 9 * 16 + 8 * 16 * 2
    assert list(found.latency_ms) == ["threads=1,batch=2"]
    assert found.latency_ms["threads=1,batch=2"] > 0


def test_a_file_and_data_are_optional(tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes(b"x" * 77)
    found = measure(classifier(4), X, file=tmp_path / "model", settings=())
    assert found.file_bytes == 77
    assert found.accuracy is None
    assert found.latency_ms == {}


def test_a_measurement_survives_json() -> None:
    found = measure(classifier(4), X, settings=[LatencySetting()])
    assert Measurement.from_json(json.loads(json.dumps(found.to_json()))) == found


def test_two_models_side_by_side() -> None:
    before, after = classifier(16), classifier(4)
    found = compare(before, after, X, settings=[LatencySetting()])
    assert found.before.macs == 4 * found.after.macs
    key = "threads=1,batch=1"
    ratio = found.before.latency_ms[key] / found.after.latency_ms[key]
    assert found.speedup[key].value == ratio
    known = Measurement(accuracy=0.5, file_bytes=1, params=2, macs=3)
    kept = compare((before, known), after, X, settings=[LatencySetting()]).before
    assert (kept.accuracy, kept.file_bytes, kept.params, kept.macs) == (0.5, 1, 2, 3)
    assert list(kept.latency_ms) == [key]


def test_the_models_are_not_changed() -> None:
    model = classifier(4).train()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    measure(model, X, loader=[(X, torch.zeros(4, dtype=torch.int64))])
    assert model.training
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
