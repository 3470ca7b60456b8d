"""TensorRT, the GPU and its memory. No other module imports ``tensorrt`` or ``cuda``.

In tests without a GPU, `fake_accelerator` takes its place.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import ProviderError

OLDEST, NEWEST = (10, 3), 11
"""Range of supported TensorRT versions, whose Python API was checked: 10.3 (JetPack 6) to 11.x."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """Properties of a GPU that an engine depends on.

    Attributes:
        name: Name of the GPU.
        compute_capability: For instance ``8.7``.
        driver: Version of the driver and the newest CUDA that it supports.
    """

    name: str
    compute_capability: str
    driver: str


@dataclass(frozen=True, slots=True)
class Accelerator:
    """TensorRT and a GPU.

    Attributes:
        tensorrt: The ``tensorrt`` module.
        device: The ``cuda.core.Device``.
        pinned: Allocator of pinned host memory.
        gpu: Properties of the GPU.
        errors: Exceptions that cuda.core raises.
    """

    tensorrt: Any
    device: Any
    pinned: Any
    gpu: Gpu
    errors: tuple[type[Exception], ...]


def find_accelerator(*, load: Callable[[str], Any] = importlib.import_module, root: Path = Path("/")) -> Accelerator:
    """Import TensorRT and select the first GPU.

    Args:
        load: Imports a module by name.
        root: Folder that contains ``proc``.

    Raises:
        ProviderError: TensorRT is missing or its version unsupported, or there is no cuda-core, driver or GPU.
    """
    trt = find_tensorrt(load=load)
    try:
        runtime = load("cuda.bindings.runtime")
        core = _cuda_core(load)
        failed = load(f"{core.__name__}._utils.cuda_utils").CUDAError
    except (ImportError, OSError, AttributeError) as error:
        raise ProviderError(
            f"TensorRT needs cuda-core and cuda-bindings ({error}); "
            "run: pip install -U cuda-core 'cuda-bindings==12.*' (13.* where nvidia-smi shows CUDA 13)"
        ) from error
    try:
        status, count = runtime.cudaGetDeviceCount()  # the only probe that stays silent without a driver
        if int(status) or not count:
            raise ProviderError(f"TensorRT needs a GPU: CUDA reports {status!r}; check nvidia-smi")
        device = core.Device(0)
        device.set_current()
        major, minor = device.compute_capability
        _, cuda = runtime.cudaDriverGetVersion()
        gpu = Gpu(device.name, f"{major}.{minor}", _driver(int(cuda), root))
        return Accelerator(trt, device, core.LegacyPinnedMemoryResource(), gpu, (failed,))
    except (RuntimeError, failed) as error:
        raise ProviderError(f"TensorRT needs a GPU, which does not respond ({error}); check nvidia-smi") from error


def find_tensorrt(*, load: Callable[[str], Any] = importlib.import_module) -> Any:
    """Import the tensorrt module; `load` imports a module by name.

    Raises:
        ProviderError: TensorRT or its libraries are missing, or its version is unsupported.
    """
    try:
        trt = load("tensorrt")
    except ModuleNotFoundError as error:
        raise ProviderError(
            "TensorRT is not installed; on a Jetson use a venv with --system-site-packages, elsewhere install "
            "mien[tensorrt] (from NVIDIA's package index)"
        ) from error
    except (ImportError, OSError) as error:
        raise ProviderError(f"TensorRT's libraries are missing ({error}); install those of its bindings") from error
    version = tuple(int(part) for part in re.findall(r"\d+", str(trt.__version__))[:2])
    if version < OLDEST or version[0] > NEWEST:
        raise ProviderError(f"expected TensorRT 10.3 to {NEWEST}.x, found {trt.__version__}; install one of these")
    return trt


def _cuda_core(load: Callable[[str], Any]) -> Any:
    try:
        core = load("cuda.core")
        if hasattr(core, "Device"):
            return core
    except ImportError:
        pass
    return load("cuda.core.experimental")  # its name before cuda.core 0.4


def _driver(cuda: int, root: Path) -> str:
    """Return the kernel module's version, if readable, and the newest CUDA that the driver supports."""
    newest = f"CUDA {cuda // 1000}.{cuda % 1000 // 10}"
    try:
        text = (root / "proc/driver/nvidia/version").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return newest
    found = re.search(r"\b(\d+\.\d+(?:\.\d+)?)\b", text)
    return f"{found.group(1)}, {newest}" if found else newest
