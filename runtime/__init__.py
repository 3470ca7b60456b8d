"""What ships to the device: numpy, OpenCV and ONNX Runtime, no torch."""
