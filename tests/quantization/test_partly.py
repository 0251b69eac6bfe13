"""Models around int8 parts: what they compute, what they say, and how they are kept."""

import copy
import json
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from int8_networks import Branching, both_ways, quantize_partly, quantize_whole, tiny_mask_rcnn
from torch import Tensor, fx, nn
from torchvision.models import get_model
from torchvision.models.detection import ssdlite320_mobilenet_v3_large

from torchcompress.core.errors import ArtifactError, CompressError, UnsupportedError
from torchcompress.core.history import Architecture, architecture, history, remember_architecture
from torchcompress.core.inputs import tensors_in
from torchcompress.core.plan import plan_from_json, plan_to_json
from torchcompress.quantization import Int8Model, PartlyInt8Model, QuantizationConfig
from torchcompress.quantization.sqnr import sqnr

DATA = both_ways()


@pytest.fixture
def model() -> Branching:
    return Branching().eval()


@pytest.fixture
def made(model: Branching) -> PartlyInt8Model:
    return quantize_partly(model, DATA, "fast")


def test_it_computes_what_the_model_computes_on_either_way(
    model: Branching, made: PartlyInt8Model
) -> None:
    for x in (*DATA, *both_ways(3, 9)):
        ratio = sqnr(model(x), made(x))
        assert ratio is not None
        assert ratio > 25


def test_the_table_tells_each_layer_and_what_stays_float(made: PartlyInt8Model) -> None:
    assert list(made.parts) == ["stem", "bright", "dark", "head"]
    table = made.table()
    assert [(row.name, row.precision) for row in table] == [
        ("stem.0", "int8"),
        ("bright.0", "int8"),
        ("dark.0", "int8"),
        ("head", "int8"),
        ("norm", "float"),
    ]
    assert [row.macs for row in table] == [36 * 8 * 27, 36 * 8 * 72, 36 * 64, 32, 0]
    assert made.int8_share() == 1.0
    assert table[4].reason == "no convolution or linear layer"
    assert made.split[""].startswith("it cannot be followed: float() argument must be")
    assert str(table).splitlines()[0] == "4 of 5 layers in int8, 100.0 % of the MACs"
    assert str(table).splitlines()[-1].startswith("the model runs by its parts: it cannot be")
    assert str(made.plan) == str(table)


def test_what_is_left_out_keeps_its_share(model: Branching) -> None:
    made = quantize_partly(model, DATA, QuantizationConfig(exclude=("bright*", "norm")))
    rows = {row.name: row for row in made.table()}
    assert rows["bright.0"].reason == rows["norm"].reason == "excluded by the configuration"
    assert isinstance(made.model.get_submodule("bright"), nn.Sequential)
    int8 = 36 * (8 * 27 + 64) + 32
    assert made.int8_share() == pytest.approx(int8 / (int8 + 36 * 8 * 72))
    with pytest.raises(CompressError, match=r"config\.exclude: 'nope\*' matches nothing"):
        quantize_partly(model, DATA, QuantizationConfig(exclude=("nope*",)))


def test_the_float_model_is_left_as_it_was(model: Branching) -> None:
    model.train()
    before = copy.deepcopy(model.state_dict())
    made = quantize_partly(model, DATA)
    assert all(module.training for module in model.modules())
    assert not any(module.training for module in made.modules())
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert isinstance(model.stem, nn.Sequential)


def test_its_plan_applied_to_a_fresh_copy_gives_the_same_bits(
    model: Branching, made: PartlyInt8Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh = Branching()
    fresh.load_state_dict(model.state_dict())
    monkeypatch.setattr(fx.Tracer, "trace", None)
    assert made.plan is not None
    plan = plan_from_json(json.loads(json.dumps(plan_to_json(made.plan))))
    assert plan == made.plan
    again = plan.apply(fresh)
    assert all(torch.equal(again(x), made(x)) for x in DATA)
    with pytest.raises(CompressError, match=r"stem\.0\.weight: the model has no such tensor"):
        plan.apply(nn.ModuleDict({"other": Branching()}))


@pytest.mark.parametrize("paths", [("", "stem"), ("stem", "stem.0"), ("stem..0",), (".stem",), ()])
def test_parts_inside_parts_are_no_plan(made: PartlyInt8Model, paths: tuple[str, ...]) -> None:
    assert made.plan is not None
    data = made.plan.to_json()
    part = data["parts"]["stem"]
    with pytest.raises(ArtifactError, match="plan"):
        plan_from_json({"kind": "quantization", **data, "parts": dict.fromkeys(paths, part)})


def test_copies_and_states(made: PartlyInt8Model) -> None:
    copied = copy.deepcopy(made)
    assert made.plan is not None
    other = made.plan.apply(Branching())
    assert not torch.equal(other(DATA[0]), made(DATA[0]))
    other.load_state_dict(made.state_dict())
    for x in DATA:
        assert torch.equal(copied(x), made(x))
        assert torch.equal(other(x), made(x))
    strange = quantize_partly(Branching().eval(), DATA, "fast")
    with pytest.raises(CompressError, match="belongs to another int8 program"):
        strange.load_state_dict(made.state_dict())
    assert history(copied) == (made.plan,)


def test_history_and_architecture_are_inherited(model: Branching) -> None:
    remember_architecture(model, Architecture("resnet18"))
    made = quantize_partly(model, DATA)
    assert architecture(made) == Architecture("resnet18")
    assert history(made) == (made.plan,)
    assert history(model) == ()


def test_the_reference_gives_nearly_the_same_numbers(made: PartlyInt8Model) -> None:
    exact = made.reference()
    for x in DATA:
        torch.testing.assert_close(exact(x), made(x), atol=0.05, rtol=0.05)
    assert exact.parts["stem"] is not made.parts["stem"]


def test_it_counts_its_parameters(model: Branching, made: PartlyInt8Model) -> None:
    folded = sum(p.numel() for p in model.stem[1].parameters())
    assert made.parameter_count == sum(p.numel() for p in model.parameters()) - folded
    assert made.zero_count >= 8  # The lone norm's shifts.


def test_it_does_not_train(made: PartlyInt8Model) -> None:
    assert made.eval() is made
    with pytest.raises(UnsupportedError, match="an int8 model does not train"):
        made.train()


def test_several_threads_get_equal_outputs(made: PartlyInt8Model) -> None:
    whole = quantize_whole(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 2, 1)), DATA)
    inputs = [torch.randn(n % 3 + 1, 3, 6 + n % 7, 6) for n in range(42)]
    for quantized in (made, whole):
        want = [quantized(x) for x in inputs]
        with ThreadPoolExecutor(4) as pool:
            assert all(map(torch.equal, pool.map(quantized, inputs), want))


def test_what_the_code_around_a_part_reads_stays(model: Branching) -> None:
    class Gained(nn.Sequential):
        def __init__(self) -> None:
            super().__init__(*model.stem)
            self.gain = 2.0

    class Sized(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.part = Gained()

        def forward(self, x: Tensor) -> Any:
            return [self.part(x) * self.part.gain] * int(x.amax() > -9)

    made = quantize_partly(Sized().eval(), DATA)
    torch.testing.assert_close(made(DATA[0])[0], 2.0 * made.parts["part"](DATA[0]))


def test_a_shared_part_is_replaced_everywhere() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU())
            self.b = nn.ModuleList([self.a])

        def forward(self, x: Tensor) -> Tensor:
            return self.a(x) if float(x.sum()) > 1e9 else self.b[0](self.a(x))

    made = quantize_partly(Twice().eval(), DATA)
    assert list(made.parts) == ["a"]
    assert made.model.get_submodule("b.0") is made.parts["a"]
    assert made.table()[0].macs == 2 * 36 * 9


def captured(model: nn.Module, made: PartlyInt8Model, *inputs: Any) -> dict[str, list[Any]]:
    """Runs the float model and returns what each call of a part took and gave."""
    seen: dict[str, list[Any]] = {path: [] for path in made.parts}
    for path in made.parts:
        model.get_submodule(path).register_forward_hook(
            lambda _, args, output, path=path: seen[path].append((args, output))
        )
    with torch.no_grad():
        model(*inputs)
    return seen


def small_ssdlite() -> nn.Module:
    model = ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=3)
    model.transform.fixed_size = (96, 96)  # pyright: ignore[reportAttributeAccessIssue]
    return model


@pytest.mark.parametrize(
    ("build", "parts"),
    [
        (small_ssdlite, ["backbone", "head"]),
        (
            tiny_mask_rcnn,
            [
                "backbone",
                "rpn.head",
                "roi_heads.box_head",
                "roi_heads.box_predictor.cls_score",
                "roi_heads.box_predictor.bbox_pred",
                "roi_heads.mask_head",
                "roi_heads.mask_predictor",
            ],
        ),
    ],
)
def test_detectors(build: Any, parts: list[str]) -> None:
    made = check_parts(build().eval(), [torch.rand(3, 64, 64), torch.rand(3, 64, 48)])
    assert list(made.parts) == parts
    answers = made([torch.rand(3, 72, 64) for _ in range(3)])
    assert len(answers) == 3
    assert all(isinstance(answer, dict) for answer in answers)


def check_parts(model: nn.Module, *inputs: Any) -> PartlyInt8Model:
    """Each part is close to float on what it is given; boxes of random weights mean nothing."""
    with warnings.catch_warnings():
        # Random weights give the branches of a concatenation very uneven ranges.
        warnings.filterwarnings("ignore", ".*concatenated branches", UserWarning)
        made = quantize_partly(model, [(inputs,)], "fast")
    share = made.int8_share()
    assert share is not None
    assert share > 0.6
    for path, calls in captured(model, made, *inputs).items():
        for args, want in calls:
            got = made.parts[path](*args)
            assert type(got) is type(want)
            for (_, a), (_, b) in zip(tensors_in(got), tensors_in(want), strict=True):
                ratio = sqnr(b, a)
                assert ratio is None or ratio > 10, path
    return made


def test_a_detector_whose_heads_calibration_never_reached() -> None:
    model = tiny_mask_rcnn()
    vars(model.roi_heads)["score_thresh"] = 1.1
    images = [torch.rand(3, 64, 64)]
    with pytest.raises(CompressError, match=r"mask_head\.0\.0, calibration batch 0: calibration n"):
        quantize_partly(model, [((images,),)])
    made = quantize_partly(model, [((images,),)], QuantizationConfig(exclude=("*.mask_*",)))
    assert "roi_heads.mask_head" not in made.parts
    assert isinstance(made.parts["backbone"], Int8Model)


@pytest.mark.zoo
@pytest.mark.parametrize(
    "name",
    [
        "fasterrcnn_mobilenet_v3_large_320_fpn",
        "fasterrcnn_resnet50_fpn",
        "fasterrcnn_resnet50_fpn_v2",
        "fcos_resnet50_fpn",
        "keypointrcnn_resnet50_fpn",
        "maskrcnn_resnet50_fpn",
        "maskrcnn_resnet50_fpn_v2",
        "retinanet_resnet50_fpn",
        "retinanet_resnet50_fpn_v2",
        "ssd300_vgg16",
        "ssdlite320_mobilenet_v3_large",
    ],
)
def test_every_detector_of_torchvision(name: str) -> None:
    model = get_model(name, weights=None, weights_backbone=None, num_classes=3).eval()
    if not name.startswith("ssd"):
        transform: Any = model.get_submodule("transform")
        transform.min_size, transform.max_size = (128,), 160
    for module in model.modules():
        if hasattr(module, "score_thresh"):
            vars(module)["score_thresh"] = 0.0
    check_parts(model, [torch.rand(3, 128, 128), torch.rand(3, 128, 112)])


@pytest.mark.zoo
@pytest.mark.parametrize("name", ["raft_small", "raft_large"])
def test_every_optical_flow_of_torchvision(name: str) -> None:
    model = get_model(name, weights=None).eval()
    pair = (torch.rand(1, 3, 128, 128), torch.rand(1, 3, 128, 128))
    check_parts(model, *pair)
