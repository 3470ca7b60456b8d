"""ONNX Runtime: sessions on the CPU, CUDA or its TensorRT provider."""
