"""What an engine needs of the machine: TensorRT, a GPU and its memory. Nothing else imports ``tensorrt`` or ``cuda``.

`FakeAccelerator` in `fake_accelerator` stands in for it where there is no GPU.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mien.runtime.errors import ProviderError

OLDEST, NEWEST = (10, 3), 11
"""TensorRT versions whose Python interface was checked: from 10.3 (JetPack 6) to 11.x."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """What an engine is tied to. compute_capability: such as ``8.7``. driver: its version, and CUDA's newest."""

    name: str
    compute_capability: str
    driver: str


@dataclass(frozen=True, slots=True)
class Accelerator:
    """TensorRT and a GPU, ready to be used.

    tensorrt: the module. device: ``cuda.core.Device``. pinned: allocates host memory that the GPU copies from.
    errors: what calls of cuda.core raise.
    """

    tensorrt: Any
    device: Any
    pinned: Any
    gpu: Gpu
    errors: tuple[type[Exception], ...]


def find_accelerator(*, load: Callable[[str], Any] = importlib.import_module, root: Path = Path("/")) -> Accelerator:
    """Import TensorRT and take the first GPU.

    load: imports a module by name. root: where ``proc`` is looked for.

    Raises:
        ProviderError: no TensorRT, one that is too old or too new, no cuda-core, no driver, or no GPU.
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
        status, count = runtime.cudaGetDeviceCount()  # the one probe that answers quietly without a driver
        if int(status) or not count:
            raise ProviderError(f"TensorRT needs a GPU: CUDA answers {status!r}; look at nvidia-smi")
        device = core.Device(0)
        device.set_current()
        major, minor = device.compute_capability
        _, cuda = runtime.cudaDriverGetVersion()
        gpu = Gpu(device.name, f"{major}.{minor}", _driver(int(cuda), root))
        return Accelerator(trt, device, core.LegacyPinnedMemoryResource(), gpu, (failed,))
    except (RuntimeError, failed) as error:
        raise ProviderError(f"TensorRT needs a GPU, which does not answer ({error}); look at nvidia-smi") from error


def find_tensorrt(*, load: Callable[[str], Any] = importlib.import_module) -> Any:
    """The tensorrt module.

    Raises:
        ProviderError: none, one without its libraries, or a version that was not checked.
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
        raise ProviderError(f"wanted TensorRT 10.3 to {NEWEST}.x, found {trt.__version__}; install one of these")
    return trt


def _cuda_core(load: Callable[[str], Any]) -> Any:
    try:
        core = load("cuda.core")
        if hasattr(core, "Device"):
            return core
    except ImportError:
        pass
    return load("cuda.core.experimental")  # its name until cuda.core 0.4


def _driver(cuda: int, root: Path) -> str:
    """The kernel module's version where it can be read, and the newest CUDA that the driver runs."""
    newest = f"CUDA {cuda // 1000}.{cuda % 1000 // 10}"
    try:
        text = (root / "proc/driver/nvidia/version").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return newest
    found = re.search(r"\b(\d+\.\d+(?:\.\d+)?)\b", text)
    return f"{found.group(1)}, {newest}" if found else newest
