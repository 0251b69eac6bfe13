"""One file that holds a compressed model, and how a fresh model is built."""

from torchcompress.deploy.architecture import build
from torchcompress.deploy.artifact import load, read_manifest, save

__all__ = ["build", "load", "read_manifest", "save"]
