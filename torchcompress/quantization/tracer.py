"""The symbolic trace of a module's forward pass."""

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import fx, nn
from torchvision.ops import FrozenBatchNorm2d, StochasticDepth

from torchcompress.quantization.binding import ObservedCall

_READ_WHOLE = (nn.ChannelShuffle, nn.MultiheadAttention, FrozenBatchNorm2d, StochasticDepth)
"""Modules that one call stands for."""


def _encoder_layer(
    layer: nn.TransformerEncoderLayer,
    src: Any,
    src_mask: Any = None,
    src_key_padding_mask: Any = None,
    is_causal: bool = False,
) -> Any:
    masks = (src_mask, src_key_padding_mask, is_causal)
    if layer.norm_first:
        x = src + layer._sa_block(layer.norm1(src), *masks)
        return x + layer._ff_block(layer.norm2(x))
    x = layer.norm1(src + layer._sa_block(src, *masks))
    return layer.norm2(x + layer._ff_block(x))


def _encoder(
    encoder: nn.TransformerEncoder,
    src: Any,
    mask: Any = None,
    src_key_padding_mask: Any = None,
    is_causal: bool | None = None,
) -> Any:
    for layer in encoder.layers:
        src = layer(src, mask, src_key_padding_mask, bool(is_causal))
    return src if encoder.norm is None else encoder.norm(src)


_PLAIN_FORWARDS: dict[type[nn.Module], Callable[..., Any]] = {
    nn.TransformerEncoderLayer: _encoder_layer,
    nn.TransformerEncoder: _encoder,
}
_FOLLOWED = (*_PLAIN_FORWARDS, nn.TransformerDecoderLayer)


class Tracer(fx.Tracer):
    """Follows one call of a module, or of a module inside it.

    Args:
        path: Of the module that is called; names stay those of the whole model.
        call: How it is called; None is every parameter as a tensor.

    Attributes:
        returned: What the call returned, in its own containers.
    """

    proxy_buffer_attributes = True

    def __init__(self, path: str, call: ObservedCall | None) -> None:
        super().__init__()
        self._path, self._call = path, call
        self.returned: Any = None

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Follows transformer layers without their checks of shapes, which a proxy cannot pass."""
        plain = _PLAIN_FORWARDS.get(type(m))
        return super().call_module(m, partial(plain, m) if plain else forward, args, kwargs)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Decides what is one call of the graph."""
        if type(m) in _FOLLOWED:
            return False
        return isinstance(m, _READ_WHOLE) or super().is_leaf_module(m, module_qualified_name)

    def create_args_for_root(
        self, root_fn: Any, is_module: bool, concrete_args: Any = None
    ) -> tuple[Any, list[Any]]:
        """Returns what is run, and the proxies that it is given."""
        if self._call is None:
            function, operands = super().create_args_for_root(root_fn, is_module, concrete_args)
            kwargs: dict[str, Any] = {}
        else:
            made = {p: self.create_proxy("placeholder", p, (), {}) for p in self._call.inputs}
            operands, kwargs = self._call.fill(made)
            function = self.root.get_submodule(self._path) if self._path else root_fn
            operands = operands if self._path else [self.root, *operands]

        def run(*args: Any) -> Any:
            self.returned = function(*args, **kwargs)
            return self.returned

        return run, operands
