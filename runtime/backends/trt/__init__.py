"""Builds, caches and runs TensorRT engines on the device."""
