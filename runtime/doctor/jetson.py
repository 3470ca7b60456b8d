"""Checks a Jetson: L4T and JetPack, power mode, clocks, swap, and TensorRT in the virtual environment.

Everything is read from files, so root is not needed and tests can use a folder in place of a board.
"""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from ..files import read_text_or_none
from .check_result import CheckResult, Status, ok_unless
from .machine import memory_gb

JETPACKS = {35: "5", 36: "6", 38: "7"}
"""Major version of JetPack by that of L4T."""
AMPLE_MEMORY_GB = 12.0
LOW_SWAP_GB = 2.0
"""A board with less memory and less swap than this may run out of both while TensorRT builds an engine."""


def check_jetson(root: Path = Path("/")) -> Iterator[CheckResult]:
    """Check the Jetson whose file system is at `root`; yield nothing on other machines."""
    release = read_text_or_none(root / "etc/nv_tegra_release")
    if release is None:
        return
    yield _jetpack(release, root)
    yield _power_mode(root)
    yield from _clocks(root)
    yield from _swap(root)
    yield _tensorrt(root)


def l4t_version(release: str) -> tuple[int, str] | None:
    """Parse the major and full version from ``/etc/nv_tegra_release``; None if not found."""
    found = re.search(r"R(\d+) \(release\), REVISION: ([\d.]+)", release)
    return (int(found.group(1)), f"{found.group(1)}.{found.group(2)}") if found else None


def _jetpack(release: str, root: Path) -> CheckResult:
    version = l4t_version(release)
    if version is None:
        return CheckResult("JetPack", Status.NOTE, f"unknown L4T version: {release.splitlines()[0]}")
    major, l4t = version
    installed = re.search(
        r"^Package: nvidia-jetpack$(?:\n.+)*?\nVersion: ([^\s+]+)",
        read_text_or_none(root / "var/lib/dpkg/status") or "",
        re.MULTILINE,
    )
    if major < 36:
        return CheckResult(
            "JetPack",
            Status.PROBLEM,
            f"L4T {l4t}, JetPack {JETPACKS.get(major, '4 or older')}: its Python is older than 3.10",
            "flash JetPack 6.2 or later",
        )
    if installed is None:
        known = JETPACKS.get(major)
        found = f"L4T {l4t}" if known is None else f"L4T {l4t} of JetPack {known}"
        return CheckResult(
            "JetPack",
            Status.NOTE,
            f"{found}; package nvidia-jetpack is not installed",
            "for CUDA and TensorRT: sudo apt install nvidia-jetpack",
        )
    return CheckResult("JetPack", Status.OK, f"{installed.group(1)}, L4T {l4t}")


def _power_mode(root: Path) -> CheckResult:
    """Read the mode set by nvpmodel, and the available modes."""
    state = re.search(r"pmode:(\d+)", read_text_or_none(root / "var/lib/nvpmodel/status") or "")
    modes = dict(
        re.findall(
            r"^< POWER_MODEL ID=(\d+) NAME=(\S+) >", read_text_or_none(root / "etc/nvpmodel.conf") or "", re.MULTILINE
        )
    )
    if state is None or not modes:
        return CheckResult("power mode", Status.NOTE, "unknown", "sudo nvpmodel -q")
    number = str(int(state.group(1)))
    name = modes.get(number, f"mode {number}")
    best = next((i for i, mode in modes.items() if mode.startswith("MAXN")), None)
    if best is None or number == best or name.startswith("MAXN"):
        return CheckResult("power mode", Status.OK, name)
    return CheckResult(
        "power mode",
        Status.NOTE,
        f"{name} (available: {', '.join(modes.values())})",
        f"before a benchmark, if the power supply allows it: sudo nvpmodel -m {best}",
    )


def _clocks(root: Path) -> Iterator[CheckResult]:
    """Check whether jetson_clocks has locked the clocks, by setting the minimum frequency to the maximum."""
    ranges = [
        (folder / "scaling_min_freq", folder / "scaling_max_freq")
        for folder in sorted(root.glob("sys/devices/system/cpu/cpufreq/policy*"))
    ]
    ranges += [
        (folder / "min_freq", folder / "max_freq")
        for folder in sorted(root.glob("sys/class/devfreq/*"))
        if "gpu" in folder.name or "ga10b" in folder.name
    ]
    known = [(read_text_or_none(low), read_text_or_none(high)) for low, high in ranges]
    locked = [low == high for low, high in known if low is not None and high is not None]
    if not locked:
        return
    if all(locked):
        yield CheckResult("clocks", Status.OK, "locked at their maximum (jetson_clocks)")
    else:
        yield CheckResult("clocks", Status.NOTE, "vary with the load", "before a benchmark: sudo jetson_clocks")


def _swap(root: Path) -> Iterator[CheckResult]:
    total_gb = memory_gb("MemTotal", root / "proc/meminfo")
    if total_gb is None:
        return
    swaps = (read_text_or_none(root / "proc/swaps") or "").splitlines()[1:]
    swap_gb = sum(int(line.split()[2]) for line in swaps) * 1024 / 1e9
    yield ok_unless(
        total_gb < AMPLE_MEMORY_GB and swap_gb < LOW_SWAP_GB,
        "swap",
        f"{swap_gb:.1f} GB, with {total_gb:.1f} GB of memory",
        "before building an engine: sudo fallocate -l 4G /swapfile && sudo chmod 600 /swapfile && "
        "sudo mkswap /swapfile && sudo swapon /swapfile",
        status=Status.NOTE,
    )


def _tensorrt(root: Path) -> CheckResult:
    """Check that this Python can import JetPack's TensorRT module, a system package."""
    here = f"{sys.version_info[0]}.{sys.version_info[1]}"
    if importlib.util.find_spec("tensorrt") is not None:
        return CheckResult("JetPack's TensorRT", Status.OK, "found by this Python")
    modules = sorted(root.glob("usr/lib/python3*/dist-packages/tensorrt"))
    if not modules:
        return CheckResult(
            "JetPack's TensorRT", Status.NOTE, "Python module not installed", "sudo apt install python3-libnvinfer"
        )
    built_for = _built_for(modules[0])
    if built_for is not None and built_for != here:
        return CheckResult(
            "JetPack's TensorRT",
            Status.PROBLEM,
            f"built for Python {built_for}, but this is {here}",
            f"/usr/bin/python{built_for} -m venv --system-site-packages ~/mien",
        )
    return CheckResult(
        "JetPack's TensorRT",
        Status.PROBLEM,
        f"installed, but this environment ({sys.prefix}) does not see the system's packages",
        "/usr/bin/python3 -m venv --system-site-packages ~/mien",
    )


def _built_for(module: Path) -> str | None:
    """Parse the Python version from a library name such as ``tensorrt.cpython-310-aarch64-linux-gnu.so``."""
    for library in sorted(module.glob("*.so")):
        if found := re.search(r"cpython-3(\d+)", library.name):
            return f"3.{found.group(1)}"
    return None
