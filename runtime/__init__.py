"""Runs face models on a device: numpy, OpenCV and ONNX Runtime (TensorRT if installed), never torch."""
