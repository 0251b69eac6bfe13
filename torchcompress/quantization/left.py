"""What stays float around the parts of a model, and why."""

import fnmatch
from collections.abc import Collection

from torch import nn

from torchcompress.quantization.call_record import has_matrix
from torchcompress.quantization.parts import Partition
from torchcompress.quantization.table import Row


def left_modules(model: nn.Module, paths: Collection[str]) -> dict[str, nn.Module]:
    """Returns the modules that no part holds, by path."""
    return {
        path: module
        for path, module in model.named_modules()
        if not any(path == part or not part or path.startswith(f"{part}.") for part in paths)
    }


def left_rows(found: Partition, paths: Collection[str], exclude: Collection[str]) -> list[Row]:
    """Returns a row for each module around the parts that has weights or multiplies.

    Args:
        found: The model and its parts.
        paths: Of the parts that became programs.
        exclude: Globs over modules that were to stay float.
    """
    rows: list[Row] = []
    for path, module in left_modules(found.model, paths).items():
        macs = round(found.record.macs.get(path, 0))
        if macs or any(True for _ in module.parameters(recurse=False)):
            kind = type(module).__name__
            reason = _reason(path, module, found, exclude)
            rows.append(Row(path or kind, kind, "float", reason, macs=macs))
    return rows


def _reason(path: str, module: nn.Module, found: Partition, exclude: Collection[str]) -> str:
    if any(fnmatch.fnmatchcase(path, pattern) for pattern in exclude):
        return "excluded by the configuration"
    if path in found.split:
        return found.split[path]
    if not has_matrix(module, inside=False):
        return "no convolution or linear layer"
    if path not in found.record.first:
        return "the code around it reads its weights and does not call it"
    return "inside a module that stays float"
