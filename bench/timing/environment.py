"""Describes the machine that figures were measured on, without identifying its owner."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ... import __version__
from ...runtime.files import read_text_or_none
from ...runtime.wording import counted

PACKAGES = (
    "numpy",
    "onnxruntime",
    "onnxruntime-gpu",
    "opencv-python",
    "opencv-python-headless",
    "tensorrt",
    "torch",
)
BUSY = 0.25
"""Load average per core above which a machine counts as busy."""


@dataclass(frozen=True, slots=True)
class Environment:
    """A machine and its state at the start of a run; unknown values are None."""

    python: str
    os: str
    machine: str
    cpu: str
    logical_cores: int
    memory_gib: float | None
    packages: Mapping[str, str]
    governor: str | None
    """Frequency governor of the first core; benchmarks want ``performance``."""
    clock_mhz: float | None
    load_average: tuple[float, float, float] | None
    """Load averages over 1, 5 and 15 minutes."""
    utc: str
    """Time of day in ISO 8601, to the second."""
    gpu: str | None = None
    """NVIDIA's name of the first GPU."""
    power_mode: str | None = None
    """Power mode of a Jetson, as set by nvpmodel."""


def describe_environment(*, root: Path = Path("/")) -> Environment:
    """Describe this machine in its current state.

    Args:
        root: Folder that contains ``proc`` and ``sys``.
    """
    cpuinfo = read_text_or_none(root / "proc/cpuinfo") or ""
    cpufreq = root / "sys/devices/system/cpu/cpu0/cpufreq"
    return Environment(
        python=platform.python_version(),
        os=f"{platform.system()} {platform.release()}",
        machine=platform.machine(),
        cpu=_cpu_model(cpuinfo, root),
        logical_cores=os.cpu_count() or 1,
        memory_gib=_memory_gib(),
        packages=_installed(),
        governor=read_text_or_none(cpufreq / "scaling_governor"),
        clock_mhz=_clock_mhz(cpuinfo, read_text_or_none(cpufreq / "scaling_cur_freq")),
        load_average=_load_average(),
        utc=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        gpu=_gpu(root),
        power_mode=read_text_or_none(root / "var/lib/nvpmodel/status"),
    )


def environment_warnings(environment: Environment) -> list[str]:
    """List reasons to doubt figures measured in this state."""
    found = []
    load = environment.load_average
    if load is not None and load[0] > BUSY * environment.logical_cores:
        found.append(f"the machine was busy: load {load[0]:.1f} on {counted(environment.logical_cores, 'core')}")
    if environment.governor not in (None, "performance"):
        found.append(f"the CPU's clock is governed by {environment.governor!r}, not by 'performance'")
    return found


def _cpu_model(cpuinfo: str, root: Path) -> str:
    # ARM kernels report no model name; boards like the Jetson identify themselves in the device tree.
    board = read_text_or_none(root / "proc/device-tree/model")
    return _field(cpuinfo, "model name") or board or platform.processor() or "unknown"


def _clock_mhz(cpuinfo: str, current_khz: str | None) -> float | None:
    if current_khz is not None and current_khz.isdecimal():
        return int(current_khz) / 1000
    mhz = _field(cpuinfo, "cpu MHz")
    try:
        return None if mhz is None else float(mhz)
    except ValueError:
        return None


def _gpu(root: Path) -> str | None:
    """Read the GPU's name from the kernel driver; a Jetson has none there, but its CPU model names the board."""
    for card in sorted((root / "proc/driver/nvidia/gpus").glob("*/information")):
        return _field(read_text_or_none(card) or "", "Model")
    return None


def _field(cpuinfo: str, name: str) -> str | None:
    for line in cpuinfo.splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip() or None
    return None


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf
        return None


def _load_average() -> tuple[float, float, float] | None:
    try:
        return os.getloadavg()
    except (AttributeError, OSError):
        return None


def _installed() -> dict[str, str]:
    found = {"mien": __version__}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
