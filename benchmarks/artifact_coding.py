"""How many bytes an artifact takes for weights, against their entropy, and how fast it is read.

Run it from the checkout: python benchmarks/artifact_coding.py
It takes two minutes on one core and writes benchmarks/results/artifact_coding.json: weights that
are drawn, then the weights of a checkpoint with those of least magnitude set to zero (--checkpoints
says where it lies). With --table it prints the table of the committed results instead.

The bound is `entropy_bytes`: where the zeros lie, then sign and exponent or the whole int8 value,
each as independent symbols, and mantissas in full. Speed is in bytes of the tensor per second of
processor time, the best of five.
"""

import argparse
import json
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from torchcompress.deploy.encoding import decode, dtype_name, encode
from torchcompress.metrics.environment import environment
from torchcompress.metrics.size import entropy_bytes

RESULTS = Path(__file__).parent / "results" / "artifact_coding.json"
COUNT = 2**22
ZEROS = (0.5, 0.8, 0.9, 0.95, 0.98)
CHECKPOINT = "resnet18_fashion_mnist_32px.safetensors"


def drawn() -> Iterator[tuple[str, list[Tensor]]]:
    """Yields weights that are drawn, by what they are."""
    torch.manual_seed(0)
    gaussian = torch.randn(COUNT)
    laplacian = torch.distributions.Laplace(0.0, 1.0).sample((COUNT,))
    chance = torch.rand(COUNT)
    for zeros in (0.0, *ZEROS):
        yield (
            f"float32, Gaussian, {zeros:.0%} zeros",
            [(0.02 * gaussian).masked_fill(chance < zeros, 0)],
        )
    mask = chance >= 0.9
    yield "float32, Gaussian, 90% zeros, either sign", [0.02 * gaussian * mask]
    for scale in (0.5, 2, 5, 12, 30):
        for name, values in (("Gaussian", gaussian), ("Laplacian", laplacian)):
            yield f"int8, {name} of scale {scale:g}", [_int8(scale * values)]
    rows = torch.exp(4 * torch.rand(512, 1))
    yield "int8, Gaussian, each row of a scale", [_int8(rows * gaussian.view(512, -1))]
    for zeros in ZEROS:
        yield (
            f"int8, Gaussian of scale 30, {zeros:.0%} zeros",
            [_int8(30 * gaussian) * (chance >= zeros)],
        )


def trained(checkpoints: str) -> Iterator[tuple[str, list[Tensor]]]:
    """Yields all weights of a ResNet-18 with those of least magnitude set to zero."""
    weights = [w for w in load_file(Path(checkpoints) / CHECKPOINT).values() if w.dim() > 1]
    magnitudes = torch.cat([w.abs().flatten() for w in weights])
    for zeros in (0.0, *ZEROS):
        order = max(int(zeros * len(magnitudes)), 1)
        threshold = magnitudes.kthvalue(order).values
        sparse = [w.masked_fill(w.abs() <= threshold, 0) for w in weights]
        yield f"ResNet-18, float32, {zeros:.0%} zeros", sparse
        yield f"ResNet-18, int8 by channel, {zeros:.0%} zeros", [_int8(127 * w / _peak(w)) for w in
                                                                 sparse]  # fmt: skip


def _peak(weight: Tensor) -> Tensor:
    """Returns the largest magnitude of each output channel, 1 where all is zero."""
    peak = weight.abs().flatten(1).amax(1).view(-1, *(1 for _ in weight.shape[1:]))
    return torch.where(peak > 0, peak, 1.0)


def _int8(values: Tensor) -> Tensor:
    return values.round().clamp(-127, 127).to(torch.int8)


def measure(name: str, tensors: list[Tensor]) -> dict[str, Any]:
    """Codes tensors as an artifact does and reads them back."""
    coded = [encode(tensor) for tensor in tensors]
    seconds = []
    for _ in range(5):
        start = time.process_time()
        again = [
            decode(encoding, data, dtype_name(tensor), tuple(tensor.shape))
            for (encoding, data), tensor in zip(coded, tensors, strict=True)
        ]
        seconds.append(time.process_time() - start)
        assert all(torch.equal(a, b) for a, b in zip(again, tensors, strict=True))
    whole = sum(tensor.nbytes for tensor in tensors)
    bound = sum(map(entropy_bytes, tensors))
    return {
        "name": name,
        "bytes": whole,
        "bound_bytes": round(bound),
        "coded_bytes": sum(len(data) for _, data in coded),
        "deflated_bytes": sum(len(zlib.compress(t.numpy().tobytes())) for t in tensors),
        "encodings": sorted({encoding for encoding, _ in coded}),
        "megabytes_per_second": round(whole / 1e6 / min(seconds)),
    }


def table(results: dict[str, Any]) -> str:
    """Returns the results as a Markdown table."""
    lines = [
        "| weights | MB | bound, MB | artifact / bound | deflate / bound | read, MB/s |",
        "|---|---|---|---|---|---|",
    ]
    for row in results["rows"]:
        bound = row["bound_bytes"]
        lines.append(
            f"| {row['name']} | {row['bytes'] / 1e6:.2f} | {bound / 1e6:.2f} "
            f"| {row['coded_bytes'] / bound:.3f} | {row['deflated_bytes'] / bound:.3f} "
            f"| {row['megabytes_per_second']:,} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoints", default="../shared/checkpoints")
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    if not options.table:
        torch.set_num_threads(1)
        cases = [*drawn(), *trained(options.checkpoints)]
        rows = [measure(name, tensors) for name, tensors in cases]
        results = {"environment": environment(), "rows": rows}
        RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(table(json.loads(RESULTS.read_text(encoding="utf-8"))))


if __name__ == "__main__":
    main()
