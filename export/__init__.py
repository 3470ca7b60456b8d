"""Training and export: the only room where torch and onnx live."""
