import copy
import subprocess
import sys
from pathlib import Path

import pytest
import sparse_together
import torch
from sparse_together import network, prune, prune_together
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from torchcompress import Target
from torchcompress.core.modules import named_tensors
from torchcompress.pruning import MagnitudePruner


def test_two_processes_prune_alike_and_like_one(tmp_path: Path) -> None:
    script, store = sparse_together.__file__, str(tmp_path / "store")
    other = subprocess.Popen([sys.executable, script, store, str(tmp_path / "second.pt")])
    try:
        model, pruner = prune_together(store, 0)
    finally:
        other.wait(timeout=60)
    second = torch.load(tmp_path / "second.pt", weights_only=True)
    assert all(torch.equal(tensor, second[name]) for name, tensor in model.state_dict().items())
    alone = network(seed=0)
    masks = prune(alone, alone).kept
    for name, tensor in named_tensors(model).items():
        torch.testing.assert_close(tensor, named_tensors(alone)[name], atol=1e-5, rtol=1e-4)
    assert all(torch.equal(mask, masks[name]) for name, mask in pruner.kept.items())
    assert all(
        torch.equal(mask, second[name] != 0)
        for name, mask in pruner.kept.items()
        if "4" not in name
    )


@pytest.mark.usefixtures("process_group")
def test_a_wrapped_model_can_be_given_and_copied() -> None:
    wrapped = DistributedDataParallel(network(seed=0))
    optimizer = torch.optim.SGD(wrapped.parameters(), lr=0.1, momentum=0.9)
    pruner = MagnitudePruner(wrapped, Target(sparsity=0.5)).attach(optimizer)
    copied = copy.deepcopy(wrapped.module)
    for model in (wrapped, copied):
        nn.functional.cross_entropy(model(torch.randn(4, 6)), torch.tensor([0, 1, 2, 0])).backward()
    optimizer.step()
    zeros = {name: int((p == 0).sum()) for name, p in wrapped.module.named_parameters()}
    assert zeros["0.weight"] + zeros["2.weight"] == sum(pruner.plan.zeros.values()) == 200
    pruner.close()
    assert not wrapped.module._forward_pre_hooks
