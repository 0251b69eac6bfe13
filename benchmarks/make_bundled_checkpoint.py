"""Stores a trained state_dict in half precision, as the package bundles it.

    python benchmarks/make_bundled_checkpoint.py CHECKPOINT.safetensors

Integer buffers (BatchNorm's batch counters) stay as they are.
"""

import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

BUNDLED = Path(__file__).parents[1] / "torchcompress" / "data" / "bundled"


def main(source: Path) -> None:
    """Writes a file of the same name into the package."""
    state = load_file(source)
    half = {name: t.half() if t.is_floating_point() else t for name, t in state.items()}
    lost = [name for name, t in half.items() if not torch.isfinite(t).all()]
    if lost:
        sys.exit(f"these do not fit half precision: {', '.join(lost)}")
    target = BUNDLED / source.name
    save_file(half, target)
    print(f"{target.name}: {target.stat().st_size:,} bytes")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
