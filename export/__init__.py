"""PyTorch: trains networks and converts them to model files. Torch, torchvision and onnx are imported only here."""

from .training.report import Report

__all__ = ["Report"]
