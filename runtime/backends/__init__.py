"""Open a model on the requested provider: ONNX Runtime or TensorRT."""
