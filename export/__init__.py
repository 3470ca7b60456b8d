"""Trains networks in PyTorch and converts them to model files; the only package that imports torch and onnx."""

from .training.report import Report

__all__ = ["Report"]
