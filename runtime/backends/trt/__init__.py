"""TensorRT: builds, caches and runs engines on the device."""
