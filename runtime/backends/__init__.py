"""Opens a model on the provider that was asked for: ONNX Runtime or TensorRT."""
