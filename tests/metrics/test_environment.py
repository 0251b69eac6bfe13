import torch

from torchcompress.metrics.environment import environment


def test_versions_and_hardware_are_named() -> None:
    found = environment()
    assert found["torch"] == torch.__version__
    assert int(found["cores"]) >= 1
    assert all(found.values())
