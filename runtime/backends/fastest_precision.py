"""Chooses the precision in which the shipped models are fastest on this machine."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable

import cv2

from ..models.runner import Provider
from ..models.spec import Precision

AVX512_VNNI = 23
"""OpenCV's number of the instructions that multiply and add int8 (``CV_CPU_AVX_512VNNI``). Without them, int8 is hardly
faster than float32."""


def fastest_precision(provider: Provider) -> Precision:
    """Return int8 if the models will run on a CPU with VNNI, else float32.

    Args:
        provider: Execution provider; with `Provider.AUTO`, an NVIDIA driver means that they will run on a GPU.
    """
    on_cpu = provider is Provider.CPU or (provider is Provider.AUTO and not has_nvidia_driver())
    return Precision.INT8 if on_cpu and cv2.checkHardwareSupport(AVX512_VNNI) else Precision.FP32


def has_nvidia_driver(load: Callable[[str], object] = ctypes.CDLL) -> bool:
    """Return whether the library of the NVIDIA driver can be loaded.

    Args:
        load: Opens a shared library.
    """
    try:
        load("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return False
    return True
