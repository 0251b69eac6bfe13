"""Back ends: the same model as PyTorch, ONNX Runtime or inductor run it."""

from torchcompress.deploy.backends.choose import compile
from torchcompress.deploy.backends.compiled import BackendRow, CompiledModel

__all__ = ["BackendRow", "CompiledModel", "compile"]
