"""The oracle of a movement rule is the operation itself, run on a tensor that holds the labels."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from torchcompress.graph.watcher import Watcher

MOVES: dict[str, Callable[[Tensor], Tensor]] = {
    "view": lambda t: t.contiguous().view(2, 24, 5),
    "flatten": lambda t: t.flatten(1),
    "unflatten_other": lambda t: t.reshape(2, 6, 2, 2, 5),
    "squeeze": lambda t: t.unsqueeze(1).squeeze(1),
    "transpose": lambda t: t.transpose(1, 3),
    "permute": lambda t: t.permute(0, 2, 3, 1),
    "movedim": lambda t: t.movedim(1, -1),
    "t": lambda t: t.select(3, 0).select(0, 0).t(),
    "slice": lambda t: t[:, 1:5],
    "slice_step": lambda t: t[:, ::2],
    "slice_negative": lambda t: t[:, -3:],
    "select_other": lambda t: t[:, :, 2],
    "split_unequal": lambda t: t.split([2, 4], 1)[1],
    "chunk": lambda t: t.chunk(2, 1)[1],
    "chunk_other": lambda t: t.chunk(2, 2)[1],
    "unbind_other": lambda t: t.unbind(2)[3],
    "cat": lambda t: torch.cat([t, t[:, :2]], 1),
    "cat_other": lambda t: torch.cat([t, t], 2),
    "cat_with_unlabelled": lambda t: torch.cat([t, torch.zeros(2, 3, 4, 5)], 1),
    "stack": lambda t: torch.stack([t, t], 1),
    "pad_space": lambda t: F.pad(t, (1, 1, 1, 1)),
    "pad_channels": lambda t: F.pad(t, (0, 0, 0, 0, 2, 1)),
    "crop_channels": lambda t: F.pad(t, (0, 0, 0, 0, -1, -2)),
    "expand": lambda t: t.expand(3, 2, 6, 4, 5),
    "repeat": lambda t: t.repeat(1, 2, 1, 1),
    "clone": lambda t: t.clone(memory_format=torch.channels_last),
    "cast": lambda t: t.to(torch.float32).double(),
    "as_strided": lambda t: t.as_strided((2, 3, 4, 5), (120, 20, 5, 1), 20),
    "as_strided_": lambda t: t.clone().as_strided_((2, 6, 20), (120, 20, 1)),
    "copy_": lambda t: torch.zeros(2, 6, 4, 5, dtype=t.dtype).copy_(t),
    "copy_into_slices": lambda t: _copied(t),
}


def _copied(t: Tensor) -> Tensor:
    out = torch.zeros(2, 8, 4, 5, dtype=t.dtype)
    out[:, :3] = t[:, 3:]
    out[:, 4:] = t[:, :4]
    return out


class Channels(nn.Module):
    """Six channels, seen as an activation of shape (2, 6, 4, 5)."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(6, dtype=torch.float64))

    def forward(self) -> Tensor:
        return as_activation(self.weight)


def as_activation(weight: Tensor) -> Tensor:
    return weight.view(1, 6, 1, 1).expand(2, 6, 4, 5).clone()


def traced() -> tuple[Channels, Watcher, np.ndarray]:
    model = Channels()
    tracer = Watcher(model)
    channels = tracer.tensors["weight"].dims[0]
    assert channels is not None
    return model, tracer, channels


@pytest.mark.parametrize("name", MOVES)
def test_labels_move_as_the_data_does(name: str) -> None:
    model, tracer, channels = traced()
    expected = MOVES[name](as_activation(torch.from_numpy(channels).double())).numpy()
    with torch.no_grad(), tracer:
        moved = MOVES[name](model())
    vectors = [(d, v) for d, v in enumerate(tracer.labels(moved).dims) if v is not None]
    assert len(vectors) == 1
    dim, vector = vectors[0]
    shape = [1] * moved.dim()
    shape[dim] = -1
    found = np.broadcast_to(vector.reshape(shape), moved.shape)
    if name == "pad_space":
        found = np.where(expected == 0, 0, found)
    assert np.array_equal(found, expected)


def test_a_channel_read_by_its_number_must_stay() -> None:
    model, tracer, channels = traced()
    with torch.no_grad(), tracer:
        model().select(1, 2)
    frozen = [tracer.couplings.reason(int(label)) is not None for label in channels]
    assert frozen == [True, True, True, False, False, False]


def test_a_write_through_one_view_is_seen_through_another() -> None:
    model, tracer, channels = traced()
    with torch.no_grad(), tracer:
        out = torch.zeros(2, 6, 4, 5, dtype=torch.float64)
        early = out.permute(0, 2, 3, 1)
        out.copy_(model())
        late = out[:, 2:]
    seen, sliced = tracer.labels(early).dims[3], tracer.labels(late).dims[1]
    assert seen is not None
    assert sliced is not None
    assert seen.tolist() == channels.tolist()
    assert sliced.tolist() == channels[2:].tolist()


def test_data_of_a_parameter_has_its_labels() -> None:
    model, tracer, _ = traced()
    with torch.no_grad(), tracer:
        seen = model.weight.data
    assert tracer.labels(seen).same(tracer.tensors["weight"])
