"""Converts checkpoints and ONNX files: fp32, fp16, int8, bundles, and the gates that they must pass."""
