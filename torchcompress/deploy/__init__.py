"""One file that holds a compressed model, and how a fresh model is built."""

from torchcompress.deploy.architecture import build
from torchcompress.deploy.artifact import load, read_manifest, save
from torchcompress.deploy.onnx import OnnxExport, export_onnx

__all__ = ["OnnxExport", "build", "export_onnx", "load", "read_manifest", "save"]
