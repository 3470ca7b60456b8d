"""Build, cache and run TensorRT engines on the device."""
