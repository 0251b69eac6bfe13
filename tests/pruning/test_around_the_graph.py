"""What users do with a pruned model, and the inputs and models that they bring."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torchvision import tv_tensors

import torchcompress as tc
from torchcompress.core.inputs import Inputs
from torchcompress.pruning import plan_channels, prune_channels

x = torch.randn(2, 3, 8, 8)


def chain(*, bias: bool = True) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1, bias=bias),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1, bias=bias),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(1024, 5, bias=bias),
    ).eval()


def kept(model: nn.Module, inputs: Inputs = x) -> list[int]:
    plan = plan_channels(model, inputs, tc.Target(channels=0.5))
    return [group.kept for group in plan.groups if not group.frozen]


def test_a_batch_of_one_is_not_unpacked() -> None:
    assert kept(chain(), torch.randn(1, 3, 8, 8)) == kept(chain())
    assert kept(chain(), (torch.randn(1, 3, 8, 8),)) == kept(chain())


def test_a_model_without_any_gradient_prunes_like_any_other() -> None:
    model = chain().requires_grad_(False)
    assert kept(model) == kept(chain())
    pruned = prune_channels(model, x, tc.Target(channels=0.5))
    assert not any(p.requires_grad for p in pruned.parameters())


def test_an_input_that_is_a_tensor_subclass_prunes_like_any_other() -> None:
    assert kept(chain(), tv_tensors.Image(x)) == kept(chain())


def test_layers_without_bias_prune_like_any_other() -> None:
    pruned = prune_channels(chain(bias=False), x, tc.Target(channels=0.5))
    assert {name for name, _ in pruned.named_parameters()} == {"0.weight", "2.weight", "5.weight"}
    assert pruned.get_parameter("5.weight").shape == (5, 512)


class Lists(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 16), nn.Linear(16, 3)

    def forward(self, parts: list[Tensor], *, scale: Tensor) -> list[tuple[Tensor, Tensor]]:
        return [(self.last(self.first(part) * scale), part) for part in parts]


def test_lists_in_and_out_with_a_keyword_input_work() -> None:
    inputs = {"parts": [torch.randn(2, 4), torch.randn(1, 4)], "scale": torch.ones(1)}
    pruned = prune_channels(Lists(), inputs, tc.Target(channels=0.5))
    assert pruned.first.out_features == 8
    assert [tuple(t.shape) for pair in pruned(**inputs) for t in pair] == [
        (2, 3), (2, 4), (1, 3), (1, 4),
    ]  # fmt: skip


def test_layers_tied_by_a_residual_are_ranked_by_what_all_of_them_lose() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.out = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.out(self.a(x) + self.b(x))

    model = Tied()
    with torch.no_grad():
        model.a.weight.copy_(torch.tensor([1.0, 2, 3, 4])[:, None].expand(4, 4))
        model.b.weight.copy_(torch.tensor([9.0, 2, 5, 6])[:, None].expand(4, 4))
        model.out.weight.fill_(1)
    plan = plan_channels(model, torch.randn(2, 4), tc.Target(channels=0.75), round_to=1)
    assert plan.removed["a.weight"][0] == plan.removed["b.weight"][0] == [1]


def test_what_remains_of_all_channels_falls_with_the_ratio_in_global_scope() -> None:
    shares = []
    for fraction in (0.75, 0.5, 0.2):
        plan = plan_channels(chain(), x, tc.Target(channels=fraction), scope="global", round_to=1)
        free = [group for group in plan.groups if not group.frozen]
        shares.append(sum(g.kept for g in free) / sum(g.channels for g in free))
        assert shares[-1] <= fraction
    assert shares == sorted(shares, reverse=True)


def test_the_file_of_a_pruned_model_is_smaller_and_loads(tmp_path: Path) -> None:
    model = chain()
    pruned = prune_channels(model, x, tc.Target(channels=0.5))
    sizes = {}
    for name, kind in (("whole", model), ("pruned", pruned)):
        tc.save(kind, tmp_path / f"{name}.tcz")
        torch.save(kind.state_dict(), tmp_path / f"{name}.pt")
        sizes[name] = [(tmp_path / f"{name}{end}").stat().st_size for end in (".tcz", ".pt")]
    assert all(a < 0.7 * b for a, b in zip(sizes["pruned"], sizes["whole"], strict=True))
    assert torch.equal(tc.load(tmp_path / "pruned.tcz", model=chain())(x), pruned(x))


def test_a_pruned_model_goes_through_onnx(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    pruned = prune_channels(chain(), x, tc.Target(channels=0.5))
    torch.onnx.export(pruned, (x,), tmp_path / "pruned.onnx", dynamo=True)
    session = onnxruntime.InferenceSession(tmp_path / "pruned.onnx")
    (found,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    assert torch.allclose(torch.from_numpy(found), pruned(x), atol=1e-5)
