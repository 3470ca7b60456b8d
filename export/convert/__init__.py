"""Converts checkpoints and ONNX files to fp32, fp16, int8 and bundles that must pass parity and accuracy checks."""
