"""Conversion of checkpoints and ONNX files to fp32, fp16, int8 and bundles, and the gates that a file must pass."""
