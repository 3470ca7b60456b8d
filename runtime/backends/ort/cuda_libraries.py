"""Finds the missing library when one of ONNX Runtime's GPU providers does not load.

ONNX Runtime itself only logs the failure and continues on the CPU.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import logging
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import onnxruntime as ort

log = logging.getLogger("mien")
_capturing = threading.Lock()

PROVIDER_LIBRARIES = {
    "CUDAExecutionProvider": "libonnxruntime_providers_cuda.so",
    "TensorrtExecutionProvider": "libonnxruntime_providers_tensorrt.so",
}
_MISSING = re.compile(r"^(\S+?\.so[.\d]*): cannot open shared object file")
_WITH_LIBRARIES = "pip install 'onnxruntime-gpu[cuda,cudnn]'"
_OWNERS = (
    ("libcuda.so", "the NVIDIA driver", "install it, or run where there is a GPU"),
    (("libnvinfer", "libnvonnxparser"), "TensorRT", "install the version that this onnxruntime was built with"),
    ("libcudnn", "cuDNN", _WITH_LIBRARIES),
    ("lib", "the CUDA libraries", _WITH_LIBRARIES),
)


@contextlib.contextmanager
def captured_stdout() -> Iterator[io.StringIO]:
    """Capture what is printed; one thread at a time, as the last of two to leave would restore the other's capture."""
    with _capturing, contextlib.redirect_stdout(io.StringIO()) as said:
        yield said


def preload() -> None:
    """Load CUDA libraries installed as wheels, so that the provider finds them."""
    if not hasattr(ort, "preload_dlls"):  # before ONNX Runtime 1.21
        return
    with captured_stdout() as said:
        ort.preload_dlls()
    for line in said.getvalue().splitlines():
        log.debug("preload: %s", line)


def why_not(provider: str, *, folder: Path | None = None, load: Callable[..., object] = ctypes.CDLL) -> str:
    """Explain why a GPU provider does not load.

    Args:
        provider: ``CUDAExecutionProvider`` or ``TensorrtExecutionProvider``.
        folder: Folder of its library, by default inside the onnxruntime package.
        load: Opens a shared library.
    """
    folder = folder or Path(ort.__file__).parent / "capi"
    library = folder / PROVIDER_LIBRARIES[provider]
    if not library.is_file():
        return f"this onnxruntime has no {library.name}; install mien[cuda] in a fresh environment"
    with contextlib.suppress(OSError):
        load(str(folder / "libonnxruntime_providers_shared.so"), ctypes.RTLD_GLOBAL)
    try:
        load(str(library))
    except OSError as error:
        found = _MISSING.match(str(error))
        if found is None:
            return f"{library.name} does not load ({error})"
        owner, fix = next((owner, fix) for start, owner, fix in _OWNERS if found.group(1).startswith(start))
        return f"{found.group(1)} is missing, part of {owner}; {fix}"
    return "its libraries load, but no GPU answers; check nvidia-smi"
