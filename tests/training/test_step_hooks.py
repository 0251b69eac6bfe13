import copy

import torch
from training_loop import X, net, same_tensors, sgd, train

from torchcompress import Target
from torchcompress.pruning import Cubic, HoldZeros, MagnitudePruner
from torchcompress.quantization.qat import FreezeSchedule, prepare_qat
from torchcompress.quantization.qat.prepared import quantizers_in


def test_a_training_copied_as_a_whole_goes_on_alike_and_apart() -> None:
    model = net()
    optimizer = sgd(model)
    schedule = Cubic(end=6, every=2)
    pruner = MagnitudePruner(model, Target(sparsity=0.8), schedule=schedule).attach(optimizer)
    train(model, [optimizer], 3)
    twin, twin_optimizer, twin_pruner = copy.deepcopy((model, optimizer, pruner))
    train(model, [optimizer], 4, first=3)
    assert twin_pruner.steps == 3
    train(twin, [twin_optimizer], 4, first=3)
    assert same_tensors(twin, model)
    assert twin_pruner.finalize() == pruner.finalize()
    assert sum(int((p == 0).sum()) for p in twin.parameters()) > 3000


def test_a_copy_that_is_closed_leaves_the_original_attached() -> None:
    model = net()
    MagnitudePruner(model, Target(sparsity=0.8)).finalize()
    zeros = {name: p == 0 for name, p in model.named_parameters()}
    optimizer = sgd(model)
    hold = HoldZeros(model).attach(optimizer)
    twin, twin_optimizer, twin_hold = copy.deepcopy((model, optimizer, hold))
    twin_hold.close()
    train(model, [optimizer], 2)
    train(twin, [twin_optimizer], 2)
    held = zeros["3.weight"]
    assert not model.get_parameter("3.weight")[held].any()
    assert bool((twin.get_parameter("3.weight")[held] != 0).any())
    hold.close()
    train(model, [optimizer], 1)
    assert bool((model.get_parameter("3.weight")[held] != 0).any())
    assert torch.equal(zeros["3.weight"], held)


def test_a_freeze_schedule_copied_with_its_training_counts_in_the_copy() -> None:
    model = prepare_qat(net(), X)
    optimizer = sgd(model)
    schedule = FreezeSchedule(model, steps=10).attach(optimizer)
    train(model, [optimizer], 2)
    twin, twin_optimizer, twin_schedule = copy.deepcopy((model, optimizer, schedule))
    train(twin, [twin_optimizer], 3, first=2)
    taken = [each.state_dict()["taken"] for each in (schedule, twin_schedule)]
    assert taken == [2, 5]
    frozen = [quantizers_in(each)[0].norms_frozen for each in (model, twin)]
    assert frozen == [False, True]
