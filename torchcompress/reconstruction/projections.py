"""The projections of `nn.MultiheadAttention` as layers: query, key, value and output."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from torchcompress.reconstruction.layers import Hook, Layer, Seen, with_gradient

_ARGUMENTS = ("query", "key", "value")


@dataclass(eq=False)
class Projection(Layer[nn.MultiheadAttention]):
    """One projection, watched at the attention module.

    The module multiplies without calling a layer, so what the projection reads is worked out from
    the arguments of the call.

    Attributes:
        part: 0, 1 or 2 for query, key and value; 3 for the output.
    """

    part: int = 0

    @property
    def kernel(self) -> int:
        """One."""
        return 1

    @property
    def weight(self) -> Tensor:
        """The matrix, (1, outputs, inputs)."""
        return self._parameter().detach()[None].clone()

    def write(self, weight: Tensor) -> None:
        """Puts a matrix into the parameter."""
        with torch.no_grad():
            self._parameter().copy_(weight[0])

    @property
    def bias(self) -> Tensor | None:
        """The bias, (1, outputs)."""
        module, width = self.module, self.module.embed_dim
        if self.part == 3:
            bias = module.out_proj.bias
            return None if bias is None else bias.detach()[None]
        if module.in_proj_bias is None:
            return None
        return module.in_proj_bias.detach()[None, self.part * width : (self.part + 1) * width]

    def tensors(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Any) -> Seen:
        """Returns what the projection reads in a call of the attention, and gives."""
        if self.part == 3:
            x = _before_output(self.module, args, kwargs)
        else:
            name = _ARGUMENTS[self.part]
            x = args[self.part] if len(args) > self.part else kwargs[name]
        bias = self.bias
        return Seen(x, F.linear(x, self.weight[0], None if bias is None else bias[0]))

    def rows(self, seen: Seen) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields input rows and output rows, in one chunk."""
        x, y = seen.x.flatten(0, -2), seen.y.flatten(0, -2)
        wide = torch.float64 if x.dtype == torch.float64 else torch.float32
        yield x.to(wide)[None], y.to(wide)[None]

    def output_rows(self, y: Tensor) -> Tensor:
        """Returns outputs as rows."""
        return y.reshape(1, -1, y.shape[-1])

    def probe(
        self,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        output: Any,
        hooks: Sequence[tuple[Layer[Any], Hook]],
    ) -> Any:
        """Returns the output of the attention, worked out from its projections.

        These are made outside the module, so that each has a gradient; an attention whose own
        projections are the identity does the rest.
        """
        parts = [Projection("", "", self.module, part=part) for part in range(3)]
        made = [with_gradient(p.tensors(args, kwargs, output).y) for p in parts]
        result, *others = _core(self.module)(*made, *args[3:], **_others(kwargs))
        for layer, hook in hooks:
            assert isinstance(layer, Projection)
            (result if layer.part == 3 else made[layer.part]).register_hook(hook)
        return (result, *others)

    def _parameter(self) -> Tensor:
        module, width = self.module, self.module.embed_dim
        if self.part == 3:
            return module.out_proj.weight
        if module._qkv_same_embed_dim:
            return module.in_proj_weight[self.part * width : (self.part + 1) * width]
        return (module.q_proj_weight, module.k_proj_weight, module.v_proj_weight)[self.part]


def projections(path: str, module: nn.MultiheadAttention) -> list[Projection]:
    """Returns the four projections of an attention, in the order in which they run."""
    prefix = f"{path}." if path else ""
    inner = ["in_proj_weight"] * 3
    if not module._qkv_same_embed_dim:
        inner = [f"{part}_proj_weight" for part in "qkv"]
    names = [*inner, "out_proj.weight"]
    return [
        Projection(f"{prefix}{part}", f"{prefix}{names[index]}", module, part=index)
        for index, part in enumerate(("q", "k", "v", "out"))
    ]


def _before_output(
    module: nn.MultiheadAttention, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Tensor:
    """Returns what the output projection reads: the attention with the identity for it."""
    core, weight = _core(module), module.out_proj.weight
    core.out_proj = nn.modules.linear.NonDynamicallyQuantizableLinear(
        module.embed_dim, module.embed_dim, bias=False, device=weight.device, dtype=weight.dtype
    )
    with torch.no_grad():
        core.out_proj.weight.copy_(torch.eye(module.embed_dim))
        made = [
            Projection("", "", module, part=part).tensors(args, kwargs, None).y for part in range(3)
        ]
        return core(*made, *args[3:], **_others(kwargs))[0]


def _others(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in kwargs.items() if name not in _ARGUMENTS}


def _core(module: nn.MultiheadAttention) -> nn.MultiheadAttention:
    """Returns an attention like another, whose query, key and value are projected already."""
    weight = module.out_proj.weight
    core = nn.MultiheadAttention(
        module.embed_dim,
        module.num_heads,
        module.dropout,
        bias=module.in_proj_bias is not None,
        add_zero_attn=module.add_zero_attn,
        batch_first=module.batch_first,
        device=weight.device,
        dtype=weight.dtype,
    ).requires_grad_(False)
    assert core.in_proj_weight is not None
    with torch.no_grad():
        core.in_proj_weight.copy_(torch.eye(module.embed_dim).repeat(3, 1))
        if core.in_proj_bias is not None:
            core.in_proj_bias.zero_()
    core.out_proj = module.out_proj
    core.bias_k, core.bias_v = module.bias_k, module.bias_v
    return core.train(module.training)
