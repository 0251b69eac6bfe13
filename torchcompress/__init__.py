"""torchcompress: makes a trained PyTorch network smaller and faster, and proves what it did."""

from torchcompress import errors
from torchcompress.core.history import history
from torchcompress.core.target import Target

__version__ = "0.1.0"

__all__ = [
    "Target",
    "errors",
    "history",
]
