"""Compressed models elsewhere: one file, ONNX, and the back ends of this machine."""

from torchcompress.deploy.architecture import build
from torchcompress.deploy.artifact import load, read_manifest, save
from torchcompress.deploy.backends import CompiledModel, compile
from torchcompress.deploy.onnx import OnnxExport, export_onnx

__all__ = [
    "CompiledModel",
    "OnnxExport",
    "build",
    "compile",
    "export_onnx",
    "load",
    "read_manifest",
    "save",
]
