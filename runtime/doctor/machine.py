"""Checks the machine itself: Python, processor, memory, disk, NVIDIA's driver and libraries."""

from __future__ import annotations

import ctypes.util
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from ..files import read_text_or_none
from ..isolated import python_command
from ..wording import counted
from .check_result import CheckResult, Status, ok_unless
from .packages import installed_version

LOW_MEMORY_GB = 0.5
LOW_DISK_GB = 1.0
CPU_FEATURES = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "asimd", "asimddp", "i8mm")


def check_system() -> Iterator[CheckResult]:
    """Check Python, the operating system and the processor."""
    python = f"{platform.python_version()} ({platform.python_implementation()}, {sys.prefix})"
    yield ok_unless(sys.version_info < (3, 10), "Python", python, "install Python 3.10 or later")
    yield CheckResult("OS", Status.OK, f"{platform.system()} {platform.release()} {platform.machine()}")
    yield CheckResult(
        "CPU", Status.OK, f"{counted(os.cpu_count() or 1, 'core')}; {' '.join(cpu_features()) or 'features unknown'}"
    )


def cpu_features(cpuinfo: Path = Path("/proc/cpuinfo")) -> list[str]:
    """List the processor features that matter for inference."""
    present = set((read_text_or_none(cpuinfo) or "").split())
    return [feature for feature in CPU_FEATURES if feature in present]


def check_memory() -> Iterator[CheckResult]:
    """Check the free memory and the free disk space."""
    free_gb = memory_gb("MemAvailable")
    if free_gb is not None:
        fix = "close other programs; the live view needs about 0.2 GB"
        yield ok_unless(free_gb < LOW_MEMORY_GB, "free memory", f"{free_gb:.1f} GB", fix)
    disk_gb = shutil.disk_usage(Path.cwd()).free / 1e9
    fix = "delete unneeded files (du -sh * | sort -h), or: pip cache purge"
    yield ok_unless(disk_gb < LOW_DISK_GB, "free disk here", f"{disk_gb:.1f} GB", fix)


def memory_gb(field: str, meminfo: Path = Path("/proc/meminfo")) -> float | None:
    """Read a field such as ``MemTotal`` in GB; None if unknown."""
    found = re.search(rf"^{field}:\s+(\d+) kB", read_text_or_none(meminfo) or "", re.MULTILINE)
    return int(found[1]) * 1024 / 1e9 if found else None


def check_nvidia() -> Iterator[CheckResult]:
    """Check the GPU and its driver, or name the board."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        if board := read_text_or_none(Path("/proc/device-tree/model")):
            release = read_text_or_none(Path("/etc/nv_tegra_release")) or "no JetPack"
            yield CheckResult("board", Status.OK, f"{board}; {release}")
        else:
            yield CheckResult("NVIDIA GPU", Status.NOTE, "no nvidia-smi: no driver, or no GPU")
        return
    query = [tool, "--query-gpu=name,driver_version,memory.free,compute_cap", "--format=csv,noheader"]
    done = subprocess.run(query, capture_output=True, text=True, timeout=20, check=False)
    if done.returncode:
        message = (done.stderr or done.stdout).strip().splitlines()
        fix = "sudo reboot (needed after every driver update); if that does not help: sudo ubuntu-drivers install"
        yield CheckResult("NVIDIA GPU", Status.PROBLEM, message[0] if message else "nvidia-smi fails", fix)
        return
    for line in done.stdout.splitlines():
        yield CheckResult("NVIDIA GPU", Status.OK, line.strip())


def check_nvidia_libraries() -> Iterator[CheckResult]:
    """Find the CUDA runtime, cuDNN and TensorRT."""
    for name, library in (("CUDA runtime", "cudart"), ("cuDNN", "cudnn")):
        yield _nvidia_library(name, library)
    if importlib.util.find_spec("tensorrt") is None:
        yield CheckResult("TensorRT", Status.NOTE, "not installed")
        return
    code = "import tensorrt; print(tensorrt.__version__)"
    done = subprocess.run(python_command(code), capture_output=True, text=True, timeout=60, check=False)
    last = (done.stdout or done.stderr).strip().splitlines()[-1:]
    fix = "install the TensorRT libraries of that version (JetPack includes them)"
    yield ok_unless(done.returncode != 0, "TensorRT", last[0] if last else "import fails", fix)


def _nvidia_library(name: str, library: str) -> CheckResult:
    """Find a CUDA library, from a pip package or from the system."""
    package = {"cudart": "nvidia-cuda-runtime", "cudnn": "nvidia-cudnn"}[library]
    for candidate in (package, f"{package}-cu12", f"{package}-cu13"):
        if (found := installed_version(candidate)) is not None:
            return CheckResult(name, Status.OK, f"{found}, from pip package {candidate}")
    if (found := ctypes.util.find_library(library)) is not None:
        return CheckResult(name, Status.OK, f"{found}, from the system")
    return CheckResult(name, Status.NOTE, "not found")
