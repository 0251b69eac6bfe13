"""The weights of a model that may become zero, and why others stay."""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from torchcompress.core.errors import CompressError, UnsupportedError, did_you_mean
from torchcompress.core.modules import unwrapped
from torchcompress.pruning.layer_globs import covers, globs

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_ATTENTION = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")


@dataclass(frozen=True)
class Weight:
    """A weight of a convolution, a linear layer or an attention projection.

    Attributes:
        name: Of the parameter.
        layer: Path of the module that computes with it.
        parameter: The tensor itself.
        groups: Groups of a convolution, else 1.
        transposed: Whether its first dimension is the input's.
    """

    name: str
    layer: str
    parameter: nn.Parameter
    groups: int = 1
    transposed: bool = False

    @property
    def inputs(self) -> int:
        """Input channels of one group."""
        shape = self.parameter.shape
        return shape[0] // self.groups if self.transposed else shape[1]

    @property
    def outputs(self) -> int:
        """Output channels of one group."""
        shape = self.parameter.shape
        return shape[1] if self.transposed else shape[0] // self.groups

    @property
    def kernel(self) -> int:
        """Positions in the kernel, 1 for a linear layer."""
        return math.prod(self.parameter.shape[2:])

    def to_matrices(self, tensor: Tensor) -> Tensor:
        """Returns a tensor of the weight's shape as (groups, outputs, kernel, inputs)."""
        if self.transposed:
            return tensor.reshape(self.groups, self.inputs, self.outputs, -1).permute(0, 2, 3, 1)
        return tensor.reshape(self.groups, self.outputs, self.inputs, -1).transpose(2, 3)

    def from_matrices(self, matrices: Tensor) -> Tensor:
        """Returns what `to_matrices` made of a tensor in the weight's own shape."""
        order = (0, 3, 1, 2) if self.transposed else (0, 1, 3, 2)
        return matrices.permute(order).reshape(self.parameter.shape)


@dataclass(frozen=True)
class Selection:
    """What a pruning of weights is about.

    Attributes:
        weights: Every weight that a sparsity counts, in the order of the model's parameters.
        stays: Why weights stay as they are, by name; those of layers that compute their weight
            from other parameters are here alone.
    """

    weights: tuple[Weight, ...]
    stays: dict[str, str]

    @property
    def free(self) -> tuple[Weight, ...]:
        """The weights that may become zero."""
        return tuple(weight for weight in self.weights if weight.name not in self.stays)

    @property
    def count(self) -> int:
        """How many single weights a sparsity counts."""
        return sum(weight.parameter.numel() for weight in self.weights)


def prunable_weights(
    model: nn.Module, exclude: Iterable[str] = (), keep_ends: bool = True
) -> Selection:
    """Lists the weights of convolutions, linear layers and attention projections.

    A tied weight is listed once; one that an embedding or a norm uses too stays.

    Args:
        model: The model.
        exclude: Globs over module paths or weight names that stay; a module stands for all layers
            in it.
        keep_ends: Whether the first convolution and the last convolution or linear layer stay, in
            the order in which the model registers them.

    Raises:
        CompressError: No such weight, none that may become zero, or a glob that matches none.
        UnsupportedError: A lazy layer that has not run yet, or one whose weight has no memory.
    """
    if not isinstance(keep_ends, bool):
        raise CompressError(f"{keep_ends!r} is neither True nor False", where="keep_ends")
    model = unwrapped(model)
    layers = [(path, m) for path, m in model.named_modules() if isinstance(m, _LAYERS)]
    weights = {id(weight.parameter): weight for weight in _weights(model, layers)}
    ordered = [weights[id(p)] for p in model.parameters() if id(p) in weights]
    if not ordered:
        raise CompressError(
            "has no weights of convolutions or linear layers",
            where=type(model).__name__,
            hint="prune before quantize, and without parametrizations",
        )
    computed = _computed(layers)
    ends = _ends(layers, weights) if keep_ends else {}
    stays = computed | _shared(model, weights) | ends
    names = [weight.name for weight in ordered] + list(computed)
    for pattern in globs(exclude, "exclude"):
        hit = [name for name in names if covers(pattern, name)]
        if not hit:
            raise CompressError(
                f"{pattern!r} matches no convolution or linear layer",
                where="exclude",
                hint=did_you_mean(pattern, (weight.layer for weight in ordered)),
            )
        stays.update((name, "excluded") for name in hit if name not in computed)
    selection = Selection(tuple(ordered), stays)
    if not selection.free:
        raise CompressError(
            f"every weight stays: {ordered[0].name} is {stays[ordered[0].name]}",
            where="exclude" if not keep_ends else "keep_ends",
            hint="exclude less" if not keep_ends else "exclude less, or give keep_ends=False",
        )
    return selection


_LAYERS = (*CONVOLUTIONS, *TRANSPOSED, nn.Linear, nn.MultiheadAttention)


def _weights(model: nn.Module, layers: Sequence[tuple[str, nn.Module]]) -> Iterator[Weight]:
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    for path, module in layers:
        for parameter in _parameters(module):
            if is_lazy(parameter):
                raise UnsupportedError(
                    "has no shape yet", where=path, hint="run the model once first"
                )
            if parameter.is_meta:
                raise UnsupportedError(
                    "is on the meta device, without numbers", where=path, hint="load weights first"
                )
            if not parameter.numel():
                continue
            transposed = isinstance(module, TRANSPOSED)
            groups = module.groups if isinstance(module, (*CONVOLUTIONS, *TRANSPOSED)) else 1
            yield Weight(names[id(parameter)], path, parameter, groups, transposed)


def _parameters(module: nn.Module) -> list[nn.Parameter]:
    attention = isinstance(module, nn.MultiheadAttention)
    found = (module._parameters.get(n) for n in (_ATTENTION if attention else ("weight",)))
    return [parameter for parameter in found if parameter is not None]


def _computed(layers: Sequence[tuple[str, nn.Module]]) -> dict[str, str]:
    """Returns the weights that are no parameters, such as those of weight norm."""
    return {
        f"{path}.weight": "computed from other parameters"
        for path, module in layers
        if not isinstance(module, nn.MultiheadAttention) and "weight" not in module._parameters
    }


def _shared(model: nn.Module, weights: dict[int, Weight]) -> dict[str, str]:
    users = defaultdict[int, list[str]](list)
    for path, module in model.named_modules():
        if not isinstance(module, _LAYERS):
            for parameter in module._parameters.values():
                users[id(parameter)].append(f"shared with {path or 'the model'}")
    return {weights[key].name: users[key][0] for key in weights if users[key]}


def _ends(layers: Sequence[tuple[str, nn.Module]], weights: dict[int, Weight]) -> dict[str, str]:
    """Returns the weights of the first convolution and of the last layer."""
    plain = [m for _, m in layers if not isinstance(m, nn.MultiheadAttention)]
    convolutions = [m for m in plain if isinstance(m, (*CONVOLUTIONS, *TRANSPOSED))]
    ends = [(m, "the first convolution") for m in convolutions[:1]]
    ends += [(m, "the classifier (the last layer)") for m in plain[-1:]]
    return {
        weights[id(p)].name: f"{reason}, kept by keep_ends"
        for module, reason in reversed(ends)
        for p in _parameters(module)
        if id(p) in weights
    }
