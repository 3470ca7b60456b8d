"""Opens models on the requested provider: ONNX Runtime or TensorRT."""
