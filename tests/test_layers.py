"""Imports run downwards only, in the order of the design."""

import ast
from pathlib import Path

import torchcompress

PACKAGE = Path(torchcompress.__file__).parent
LEVELS = {
    "core": 0,
    "graph": 1,
    "data": 2,
    "metrics": 3,
    "training": 4,
    "reconstruction": 4,
    "pruning": 5,
    "quantization": 5,
    "distillation": 5,
    "deploy": 6,
    "report": 6,
    "recipe": 7,
    "cli": 8,
}


def imported(path: Path) -> set[str]:
    """Returns the packages of torchcompress that a file imports."""
    names = set[str]()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
        elif isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
    parts = [name.split(".") for name in names if name.startswith("torchcompress.")]
    return {part[1] for part in parts}


def test_every_package_has_a_level_and_imports_only_lower_ones() -> None:
    upwards = []
    for path in sorted(PACKAGE.rglob("*.py")):
        own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if own in ("__init__", "__main__", "errors"):
            continue
        upwards += [
            f"{path.relative_to(PACKAGE)} imports {other}"
            for other in imported(path) - {own}
            if LEVELS[other] >= LEVELS[own]
        ]
    assert upwards == []
