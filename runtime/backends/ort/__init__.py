"""ONNX Runtime sessions on the CPU, CUDA or ONNX Runtime's TensorRT provider."""
