"""Random architectures: every plan keeps its promises, by an oracle that shares no code with it."""

import random

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from random_networks import Description, Node, draw_case, judge

from torchcompress import Target


@settings(
    max_examples=200,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],  # `random_networks.shrunk` makes a failure small.
    suppress_health_check=[HealthCheck.too_slow],
)
@given(st.randoms(use_true_random=False))
def test_a_random_network_keeps_what_its_plan_promises(rng: random.Random) -> None:
    description, target, options = draw_case(rng)
    judge(description, target, **options)


def halves(kind: str) -> Description:
    return Description(
        inputs=("image",),
        nodes=(
            Node("conv", (0,), {"out": 12, "kernel": 3, "stride": 1, "groups": 1, "bias": True}),
            Node("parts", (1,), {"kind": kind}),
            Node("gated", (2,), {"out": 12}),
            Node("cat_images", (3, 4), {"swap": False}),
            Node("to_vector", (5,), {"kind": "mean"}),
            Node("linear_vector", (6,), {"out": 3, "bias": True}),
        ),
        outputs=(7,),
    )


def attention(kind: str) -> Description:
    return Description(
        inputs=("tokens",),
        nodes=(
            Node("linear_tokens", (0,), {"out": 16, "bias": True}),
            Node("attention", (1,), {"kind": kind, "heads": 2, "fused": False}),
            Node("pool_tokens", (2,), {"kind": "mean"}),
            Node("linear_vector", (3,), {"out": 3, "bias": True}),
        ),
        outputs=(4,),
    )


CASES = {
    "attention_by_hand": (attention("matmul"), Target(channels=0.5)),
    "attention_fused": (attention("sdpa"), Target(channels=0.5)),
    "attention_module": (attention("module"), Target(channels=0.5)),
    "buffer_out_of_reach": (
        Description(
            inputs=("image",),
            nodes=(
                Node("scale", (0,), {"buffer": True}),
                Node("conv", (1,), {"out": 8, "kernel": 3, "stride": 1, "groups": 1, "bias": True}),
                Node("to_vector", (2,), {"kind": "mean"}),
                Node("linear_vector", (3,), {"out": 3, "bias": True}),
            ),
            outputs=(4,),
        ),
        Target(macs=0.05),
    ),
    "depthwise_over_a_value_and_an_input": (
        Description(
            inputs=("image",),
            nodes=(
                Node(
                    "conv", (0,), {"out": 16, "kernel": 3, "stride": 1, "groups": 1, "bias": True}
                ),
                Node("cat_images", (0, 1), {"swap": False}),
                Node("depthwise", (2,), {"multiplier": 1}),
                Node("to_vector", (3,), {"kind": "mean"}),
                Node("linear_vector", (4,), {"out": 3, "bias": True}),
            ),
            outputs=(5,),
        ),
        Target(channels=0.5),
    ),
    "depthwise_over_a_value_twice": (
        Description(
            inputs=("image",),
            nodes=(
                Node(
                    "conv", (0,), {"out": 12, "kernel": 1, "stride": 1, "groups": 1, "bias": True}
                ),
                Node("cat_images", (1, 1), {"swap": False}),
                Node("depthwise", (2,), {"multiplier": 2}),
                Node("to_vector", (3,), {"kind": "mean"}),
                Node("linear_vector", (4,), {"out": 3, "bias": True}),
            ),
            outputs=(5,),
        ),
        Target(channels=0.5),
    ),
    "grouped_layers_that_share_a_weight": (
        Description(
            inputs=("image",),
            nodes=(
                Node(
                    "conv", (0,), {"out": 12, "kernel": 1, "stride": 1, "groups": 1, "bias": True}
                ),
                Node("depthwise", (1,), {"multiplier": 1}),
                Node("depthwise", (2,), {"multiplier": 1}),
                Node("to_vector", (3,), {"kind": "mean"}),
                Node("linear_vector", (4,), {"out": 3, "bias": True}),
            ),
            outputs=(5,),
            ties=(("steps.1.conv.weight", "steps.2.conv.weight"),),
        ),
        Target(channels=0.5),
    ),
    "groups_counted_again_by_a_shuffle": (
        Description(
            inputs=("image",),
            nodes=(
                Node("conv", (0,), {"out": 8, "kernel": 3, "stride": 1, "groups": 1, "bias": True}),
                Node("transposed", (1,), {"out": 12, "stride": 1, "groups": 4}),
                Node("shuffle", (2,), {"groups": 4}),
                Node("to_vector", (3,), {"kind": "mean"}),
                Node("linear_vector", (4,), {"out": 3, "bias": True}),
            ),
            outputs=(5,),
        ),
        Target(channels=0.5),
    ),
    "a_norm_that_lies_otherwise_in_memory": (
        Description(
            inputs=("image",),
            nodes=(
                Node(
                    "conv", (0,), {"out": 16, "kernel": 3, "stride": 1, "groups": 1, "bias": False}
                ),
                Node("cat_images", (1, 0), {"swap": False}),
                Node("pad", (2,), {"kind": "reflect"}),
                Node("layer_norm_2d", (3,), {}),
                Node("slice", (4,), {"kind": "even"}),
                Node("gated", (5,), {"out": 8}),
                Node("resize", (6,), {"kind": "nearest"}),
                Node("to_tokens", (7,), {"kind": "view"}),
                Node("pool_tokens", (8,), {"kind": "flatten"}),
                Node("linear_vector", (9,), {"out": 3, "bias": True}),
            ),
            outputs=(10,),
        ),
        Target(macs=0.75),
    ),
    "halves_by_slices": (halves("halves"), Target(channels=0.9)),
    "halves_by_tensor_split": (halves("tensor_split"), Target(channels=0.9)),
}
"""Networks on which a plan once broke a promise, with the target."""


@pytest.mark.parametrize("scope", ["global", "layer"])
@pytest.mark.parametrize("name", CASES)
def test_a_network_that_once_failed(name: str, scope: str) -> None:
    description, target = CASES[name]
    judge(description, target, round_to=1, scope=scope)
