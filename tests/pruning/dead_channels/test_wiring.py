import pytest
import torch
import torch.nn.functional as F

from torchcompress.pruning.dead_channels.wiring import convolution_wiring, product_wiring


def arguments(weight: torch.Tensor, groups: int, padding: int, transposed: bool) -> tuple:
    pads, once, nothing = [padding, padding], [1, 1], [0, 0]
    return None, weight, None, once, pads, once, transposed, nothing, groups


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("transposed", [False, True])
def test_wiring_and_what_constants_add_match_convolutions_of_single_channels(
    groups: int, transposed: bool
) -> None:
    torch.manual_seed(0)
    shape = (4, 8 // groups) if transposed else (8, 4 // groups)
    weight = torch.randn(*shape, 3, 3) * (torch.rand(*shape, 1, 1) > 0.5)
    wiring = convolution_wiring(arguments(weight, groups, 0, transposed))
    convolve = F.conv_transpose2d if transposed else F.conv2d
    for channel in range(4):
        x = torch.zeros(1, 4, 5, 5)
        x[:, channel] = 2.0
        out = convolve(x, weight, groups=groups)[0]
        reads = torch.from_numpy(wiring.wired()[:, channel])
        assert torch.equal(out.flatten(1).ne(0).any(1), reads)
        if not transposed:
            values = torch.eye(4, dtype=torch.float64)[channel].mul(2).numpy()
            torch.testing.assert_close(wiring.added(values), out[:, 1, 1].double().numpy(),
                                       rtol=1e-5, atol=1e-5)  # fmt: skip


@pytest.mark.parametrize("padding", [0, 1, 2])
def test_what_is_read_next_to_a_border_makes_a_constant_vary(padding: int) -> None:
    for tap in range(9):
        weight = torch.zeros(1, 1, 9)
        weight[0, 0, tap] = 1
        weight = weight.view(1, 1, 3, 3)
        out = F.conv2d(torch.ones(1, 1, 6, 6), weight, padding=padding)
        wiring = convolution_wiring(arguments(weight, 1, padding, False))
        assert bool(wiring.bordered()[0, 0]) == bool((out != out[0, 0, 3, 3]).any())


def test_a_product_reads_what_its_matrix_says() -> None:
    weight = torch.tensor([[1.0, 0.0, 2.0], [0.0, 0.0, 3.0]])
    wiring = product_wiring(weight)
    assert wiring.wired().tolist() == [[True, False], [False, False], [True, True]]
    assert not wiring.bordered().any()
    assert wiring.added(torch.tensor([2.0, 10.0]).double().numpy()).tolist() == [2.0, 0.0, 34.0]
