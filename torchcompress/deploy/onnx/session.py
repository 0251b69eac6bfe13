"""ONNX Runtime sessions, and what to do where it is not installed."""

from typing import Any

import torch
from torch import Tensor


def open_session(model: bytes, threads: int, *, optimize: bool = True) -> Any:
    """Returns a session on the CPU.

    Args:
        model: The content of an ONNX file.
        threads: That one call may use.
        optimize: Fuse operations; otherwise each node runs as it is written.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    # Otherwise products of float activations with int8 weights round the activations, too.
    options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "1")
    if not optimize:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def run_session(session: Any, inputs: list[Tensor]) -> list[Tensor]:
    """Runs a session on tensors, which it reads and writes in place.

    Args:
        session: What `open_session` returned.
        inputs: In the order of the graph's.
    """
    names = [value.name for value in session.get_inputs()]
    arrays = {name: x.detach().contiguous().numpy() for name, x in zip(names, inputs, strict=True)}
    return [torch.from_numpy(made) for made in session.run(None, arrays)]
