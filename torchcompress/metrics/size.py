"""How large a model is: parameters and bytes."""

from pathlib import Path

from torch import nn


def count_params(model: nn.Module) -> int:
    """Returns how many weights and biases a model has; tied ones count once.

    An int8 model keeps its weights in buffers and says itself how many there are
    (`parameter_count`).

    Args:
        model: Any model.
    """
    own = getattr(model, "parameter_count", None)
    return own if isinstance(own, int) else sum(p.numel() for p in model.parameters())


def state_dict_bytes(model: nn.Module) -> int:
    """Returns the bytes of the tensors in a model's state_dict, each in its own dtype.

    Tied tensors count once and a container's header is left out, so no file that holds the
    state_dict is smaller.

    Args:
        model: Any model.
    """
    sizes: dict[tuple[int, int], int] = {}
    for tensor in model.state_dict().values():
        sizes[tensor.data_ptr(), tensor.numel()] = tensor.numel() * tensor.element_size()
    return sum(sizes.values())


def file_bytes(path: str | Path) -> int:
    """Returns the size of a file in bytes.

    Args:
        path: The file.
    """
    return Path(path).stat().st_size
