"""The channel cases at three sizes: equal to the original zeroed, or refused with a reason."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from channel_cases import CASES
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map_only

from torchcompress import Target
from torchcompress.errors import UnsupportedError
from torchcompress.pruning import PruningPlan, plan_channels

Oracle = Callable[[nn.Module, Any, PruningPlan], Any]

PRUNABLE: dict[str, tuple[str, ...]] = {
    "buffer_scale": ("c1", "c2"),
    "c2f_block": ("cv1", "m", "cv2"),
    "cat_negdim": ("c1", "c2", "c3"),
    "cat_with_input": ("c1", "c2"),
    "cat_xx": ("c1", "c2"),
    "channel_shuffle_view": ("c1", "c2"),
    "channels_last_permute_flatten": ("c1",),
    "chunk2": ("c1", "c2"),
    "chunk2_glu": ("c1", "c2"),
    "cls_token_pos": ("c", "l"),
    "conv_transpose": ("c1", "t", "c2"),
    "conv_transpose_grouped": ("c1", "c2"),
    "dense_cat_bn": ("c1", "c2", "c3"),
    "depthwise": ("c1", "c3"),
    "depthwise_multiplier2": ("c1", "c3"),
    "dict_output": ("c1",),
    "einsum_bilinear": ("c1",),
    "flatten_adaptive55": ("c1", "c2"),
    "flatten_hardcoded_view": (),
    "flatten_linear": ("c1", "c2"),
    "frozen_params": ("c1", "c2"),
    "group_conv": ("c1", "c3"),
    "group_conv_residual": ("c1",),
    "groupnorm": ("c1", "c2"),
    "instancenorm_tracked": ("c1", "c2"),
    "layernorm_chlast": ("c1", "c2", "c3"),
    "lstm_after_cnn": (),
    "max_over_channels_cbam": ("c1", "c2"),
    "mha_module": ("c1", "m"),
    "no_grad_branch": ("c1", "c2"),
    "output_is_residual": ("c1",),
    "pad_channels_resnet_A": ("c1",),
    "pixel_shuffle": ("c1", "c2"),
    "prelu": ("c1", "c2"),
    "raw_param_matmul": ("c1", "g"),
    "raw_param_scale_c11": ("c1", "c2"),
    "residual": ("c1",),
    "se_block": ("c1", "f1", "c2"),
    "se_linear_view": ("c1", "f1", "c2"),
    "shared_conv": ("c1",),
    "slice_channels": ("c1#2", "c2"),
    "split_hardcoded": ("c2",),
    "tied_weights": ("l",),
    "timm_qkv_attention": ("e",),
    "unused_layer": ("c1", "c2"),
    "upsample_cat_unet": ("c1", "c2", "c3"),
    "weight_norm": ("c1", "c2"),
}
"""Groups of each case that must not be frozen; none where the code fixes every size."""

INEXACT = {"cls_token_pos", "layernorm_chlast", "max_over_channels_cbam",
           "mha_module", "timm_qkv_attention"}  # fmt: skip
"""Cases that compute a statistic over the pruned channels."""


def test_every_case_has_its_expectation() -> None:
    assert CASES.keys() == PRUNABLE.keys()
    assert len(CASES) == 47


@pytest.mark.parametrize("kept", [0.75, 0.5, 0.25])
@pytest.mark.parametrize("name", CASES)
def test_a_case_equals_the_original_zeroed_or_says_why_not(
    name: str, kept: float, oracle: Oracle
) -> None:
    model, x = CASES[name].build()
    if not PRUNABLE[name]:
        with pytest.raises(UnsupportedError, match="no channel of the model can be pruned: "):
            plan_channels(model, x, Target(channels=kept), round_to=1)
        return
    plan = plan_channels(model, x, Target(channels=kept), round_to=1)
    free = {group.name: group for group in plan.groups if not group.frozen}
    assert free.keys() >= set(PRUNABLE[name])
    assert all(free[group].kept < free[group].channels for group in PRUNABLE[name])
    assert not plan.inexact or name in INEXACT
    pruned = plan.apply(model)
    with torch.no_grad():
        expected, structure = tree_flatten(oracle(model, x, plan))
        found, same = tree_flatten(pruned(x))
    assert structure == same
    for left, right in zip(expected, found, strict=True):
        assert left.shape == right.shape
        if not plan.inexact:
            assert torch.allclose(left, right, atol=1e-4 * float(left.abs().max()))


def ties(model: nn.Module) -> list[list[str]]:
    """Returns the names of parameters that are one object."""
    names: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    return list(names.values())


def traits(model: nn.Module) -> dict[str, tuple[Any, ...]]:
    """Returns what a cut must leave of each parameter and buffer."""
    return {
        name: (
            tensor.dtype,
            tensor.requires_grad,
            tensor.dim() == 4 and tensor.is_contiguous(memory_format=torch.channels_last),
        )
        for name, tensor in model.state_dict(keep_vars=True).items()
    }


def learns(model: nn.Module, x: Any) -> dict[str, bool]:
    """Runs forward and backward; returns which parameters have a gradient of their shape."""
    torch.stack([leaf.sum() for leaf in tree_leaves(model(x))]).sum().backward()
    return {
        name: parameter.grad is not None and parameter.grad.shape == parameter.shape
        for name, parameter in model.named_parameters()
    }


@pytest.mark.parametrize("name", [name for name in CASES if PRUNABLE[name]])
def test_a_case_stays_what_it_was(name: str) -> None:
    model, x = CASES[name].build()
    model.to(torch.float64).to(memory_format=torch.channels_last)  # pyright: ignore
    x = tree_map_only(Tensor, lambda t: t.double() if t.is_floating_point() else t, x)
    next(model.parameters()).requires_grad_(False)
    for position, module in enumerate(model.modules()):
        module.training = position % 2 == 0
    calls: list[int] = []
    model.register_forward_hook(lambda *_: calls.append(1))
    pruned = plan_channels(model, x, Target(channels=0.5), round_to=1).apply(model)
    assert ties(pruned) == ties(model)
    assert traits(pruned) == traits(model)
    assert [m.training for m in pruned.modules()] == [m.training for m in model.modules()]
    calls.clear()
    assert learns(pruned, x) == learns(model, x)
    assert calls == [1, 1]
    copied = copy.deepcopy(pruned).eval()
    for left, right in zip(tree_leaves(copied(x)), tree_leaves(pruned.eval()(x)), strict=True):
        assert torch.equal(left, right)
