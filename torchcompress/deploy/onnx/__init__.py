"""ONNX files: quantized values as each runtime wants them, checked by running them."""

from torchcompress.deploy.onnx.export import OnnxExport, export_onnx

__all__ = ["OnnxExport", "export_onnx"]
