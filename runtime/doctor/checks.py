"""Check this machine for `mien doctor`, changing nothing; providers are tested by running a model."""

from __future__ import annotations

import contextlib
import ctypes.util
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import cv2
import numpy as np
import onnxruntime as ort

from ..backends.open_runner import open_model
from ..backends.ort.onnx_session import compiled_in
from ..capture.opencv_video import has_gstreamer
from ..errors import MienError, next_step
from ..files import read_text_or_none
from ..models.runner import Provider
from ..models.shipped import shipped_model
from ..output.window import has_display, has_windows
from .check_result import CheckResult, Status
from .duplicate_packages import check_packages
from .jetson import check_jetson

LOW_MEMORY_GB = 0.5
LOW_DISK_GB = 1.0
CPU_FEATURES = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "asimd", "asimddp", "i8mm")
OPENCV_FEATURES = ("FFMPEG", "GStreamer", "v4l/v4l2")
WINDOW_TEST = "import cv2, numpy; cv2.imshow('mien doctor', numpy.zeros((32, 32, 3), 'uint8')); cv2.waitKey(50)"


def run_checks() -> Iterator[CheckResult]:
    """Run all checks; one that fails unexpectedly is reported as a problem."""
    for check in CHECKS:
        try:
            yield from check()
        except (OSError, ValueError, RuntimeError, subprocess.SubprocessError) as error:
            yield CheckResult(
                check.__name__.strip("_").removeprefix("check_"), Status.PROBLEM, f"check failed: {error}"
            )


def _system() -> Iterator[CheckResult]:
    old = sys.version_info < (3, 10)
    yield CheckResult(
        "Python",
        Status.PROBLEM if old else Status.OK,
        f"{platform.python_version()} ({platform.python_implementation()}, {sys.prefix})",
        "install Python 3.10 or later" if old else "",
    )
    yield CheckResult("OS", Status.OK, f"{platform.system()} {platform.release()} {platform.machine()}")
    yield CheckResult("CPU", Status.OK, f"{os.cpu_count()} core(s); {' '.join(cpu_features()) or 'features unknown'}")


def cpu_features(cpuinfo: Path = Path("/proc/cpuinfo")) -> list[str]:
    """List the processor features that matter for inference."""
    try:
        present = set(cpuinfo.read_text(encoding="utf-8").split())
    except OSError:
        return []
    return [feature for feature in CPU_FEATURES if feature in present]


def _memory() -> Iterator[CheckResult]:
    free_gb = free_memory_gb()
    if free_gb is not None:
        low = free_gb < LOW_MEMORY_GB
        yield CheckResult(
            "free memory",
            Status.PROBLEM if low else Status.OK,
            f"{free_gb:.1f} GB",
            "close other programs; the live view needs about 0.2 GB" if low else "",
        )
    disk_gb = shutil.disk_usage(Path.cwd()).free / 1e9
    low = disk_gb < LOW_DISK_GB
    yield CheckResult(
        "free disk here",
        Status.PROBLEM if low else Status.OK,
        f"{disk_gb:.1f} GB",
        "delete unneeded files (du -sh * | sort -h), or: pip cache purge" if low else "",
    )


def free_memory_gb(meminfo: Path = Path("/proc/meminfo")) -> float | None:
    """Read the available memory in GB; None if unknown."""
    try:
        found = re.search(r"^MemAvailable:\s+(\d+) kB", meminfo.read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        return None
    return int(found.group(1)) * 1024 / 1e9 if found else None


def _nvidia() -> Iterator[CheckResult]:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        board = read_text_or_none(Path("/proc/device-tree/model"))
        if board:
            yield CheckResult(
                "board", Status.OK, f"{board}; {read_text_or_none(Path('/etc/nv_tegra_release')) or 'no JetPack'}"
            )
        else:
            yield CheckResult("NVIDIA GPU", Status.NOTE, "no nvidia-smi: no driver, or no GPU")
        return
    query = [tool, "--query-gpu=name,driver_version,memory.free,compute_cap", "--format=csv,noheader"]
    done = subprocess.run(query, capture_output=True, text=True, timeout=20, check=False)
    if done.returncode:
        message = (done.stderr or done.stdout).strip().splitlines()
        fix = "sudo reboot (needed after every driver update); if that does not help: sudo ubuntu-drivers install"
        yield CheckResult("NVIDIA GPU", Status.PROBLEM, message[0] if message else "nvidia-smi fails", fix)
    for line in done.stdout.splitlines() if not done.returncode else ():
        yield CheckResult("NVIDIA GPU", Status.OK, line.strip())


def _libraries() -> Iterator[CheckResult]:
    yield CheckResult("numpy", Status.OK, np.__version__)
    for name, library in (("CUDA runtime", "cudart"), ("cuDNN", "cudnn")):
        yield _nvidia_library(name, library)
    if importlib.util.find_spec("tensorrt") is None:
        yield CheckResult("TensorRT", Status.NOTE, "not installed")
        return
    code = "import tensorrt; print(tensorrt.__version__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    last = (done.stdout or done.stderr).strip().splitlines()[-1:]
    yield CheckResult(
        "TensorRT",
        Status.PROBLEM if done.returncode else Status.OK,
        last[0] if last else "import fails",
        "install the TensorRT libraries of that version (JetPack includes them)" if done.returncode else "",
    )


def _nvidia_library(name: str, library: str) -> CheckResult:
    """Find a CUDA library, from a pip package or from the system."""
    package = {"cudart": "nvidia-cuda-runtime", "cudnn": "nvidia-cudnn"}[library]
    for candidate in (package, f"{package}-cu12", f"{package}-cu13"):
        if (found := _version(candidate)) is not None:
            return CheckResult(name, Status.OK, f"{found}, from pip package {candidate}")
    if (found := ctypes.util.find_library(library)) is not None:
        return CheckResult(name, Status.OK, f"{found}, from the system")
    return CheckResult(name, Status.NOTE, "not found")


def _opencv() -> Iterator[CheckResult]:
    information = cv2.getBuildInformation()
    flags = [
        f"{name} {'yes' if re.search(rf'^ *{name}: +YES', information, re.MULTILINE) else 'no'}"
        for name in OPENCV_FEATURES
    ]
    yield CheckResult("OpenCV", Status.OK, f"{cv2.__version__}; {', '.join(flags)}, windows {_yes(has_windows())}")
    if not has_gstreamer(information):
        yield CheckResult(
            "CSI cameras",
            Status.NOTE,
            "this OpenCV has no GStreamer",
            "on a Jetson, use the system's OpenCV: python3 -m venv --system-site-packages, without opencv-python",
        )


def _providers() -> Iterator[CheckResult]:
    compiled = ort.get_available_providers()
    yield CheckResult("ONNX Runtime", Status.OK, f"{ort.__version__}; compiled in: {', '.join(compiled)}")
    for provider in Provider:
        if provider is not Provider.AUTO:
            yield try_provider(provider)


def try_provider(provider: Provider) -> CheckResult:
    """Run the shipped landmark model on a provider; a TensorRT engine is built in a temporary cache."""
    name = f"runs on {provider.value}"
    try:
        with _temporary_cache(), open_model(shipped_model("landmarks"), provider=provider) as runner:
            height, width = runner.spec.input_size
            runner(np.full((1, height, width, 3), 127, np.uint8))
            return CheckResult(name, Status.OK, f"yes, verified on {runner.provider}")
    except (MienError, RuntimeError, OSError) as error:
        found, fix = next_step(error)
        status = Status.PROBLEM if _is_installed(provider) else Status.NOTE
        return CheckResult(name, status, found, fix or f"mien --verbose info MODEL.onnx --provider {provider.value}")


def _is_installed(provider: Provider) -> bool:
    """Check whether the provider was installed on purpose, so that its failure is a problem."""
    if provider is Provider.TENSORRT:
        return importlib.util.find_spec("tensorrt") is not None
    if provider is Provider.ORT_TENSORRT:  # every onnxruntime-gpu includes it, without TensorRT
        return compiled_in(provider) and ctypes.util.find_library("nvinfer") is not None
    return compiled_in(provider)


@contextlib.contextmanager
def _temporary_cache() -> Iterator[None]:
    """Leave the user's cache unchanged."""
    before = os.environ.get("MIEN_CACHE")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MIEN_CACHE"] = folder
        try:
            yield
        finally:
            del os.environ["MIEN_CACHE"]
            if before is not None:
                os.environ["MIEN_CACHE"] = before


def _window() -> Iterator[CheckResult]:
    if not has_display():
        yield CheckResult("window", Status.NOTE, "no display here", "use --no-show with --output or --json")
    elif not has_windows():
        yield CheckResult(
            "window", Status.NOTE, "this OpenCV was built without window support", "pip install 'mien[cpu]'"
        )
    else:  # in a subprocess: Qt aborts the process if it fails
        done = subprocess.run([sys.executable, "-c", WINDOW_TEST], capture_output=True, timeout=30, check=False)
        shown = done.returncode == 0
        yield CheckResult(
            "window",
            Status.OK if shown else Status.PROBLEM,
            "works" if shown else "OpenCV cannot open one",
            "" if shown else "check DISPLAY; until then use --no-show",
        )


def _camera() -> Iterator[CheckResult]:
    devices = sorted(Path("/dev").glob("video*"))
    if not devices:
        yield CheckResult("camera", Status.NOTE, "none found", "use --source demo, which needs none")
    for device in devices:
        if not os.access(device, os.R_OK | os.W_OK):
            yield CheckResult("camera", Status.PROBLEM, f"no permission for {device}", "sudo usermod -aG video $USER")
            continue
        video = cv2.VideoCapture(str(device))
        works, picture = video.read() if video.isOpened() else (False, None)
        video.release()
        size = "" if picture is None else f" {picture.shape[1]}x{picture.shape[0]}"
        yield CheckResult("camera", Status.OK if works else Status.NOTE, f"{device}:{size or ' delivers no picture'}")


CHECKS: tuple[Callable[[], Iterator[CheckResult]], ...] = (
    _system,
    _memory,
    check_packages,
    _nvidia,
    check_jetson,
    _libraries,
    _opencv,
    _providers,
    _window,
    _camera,
)


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
