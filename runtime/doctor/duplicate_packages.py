"""Find pip packages that overwrite each other because they provide the same module."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from importlib.metadata import packages_distributions
from pathlib import Path

from ..output.window import has_display
from .check_result import CheckResult, Status


def check_packages() -> Iterator[CheckResult]:
    """Check the packages of ONNX Runtime and OpenCV, each of which comes in several variants."""
    installed = packages_distributions()
    jetson = Path("/etc/nv_tegra_release").is_file()
    gpu = shutil.which("nvidia-smi") is not None and not jetson
    for module in ("onnxruntime", "cv2"):
        packages = sorted(set(installed.get(module, [])))
        yield duplicate_packages(module, packages, gpu=gpu, display=has_display(), jetson=jetson)


def duplicate_packages(module: str, packages: Sequence[str], *, gpu: bool, display: bool, jetson: bool) -> CheckResult:
    """Report a module provided by several packages, and keep the one that fits this machine.

    Args:
        module: ``onnxruntime`` or ``cv2``.
        packages: Installed packages that provide it.
        gpu: The machine has an NVIDIA GPU that the packages on PyPI support.
        display: Windows can be shown.
        jetson: The machine is a Jetson, whose OpenCV comes with the system.

    Returns:
        Result whose fix uninstalls all of them and reinstalls one.
    """
    name = f"{module} package"
    if len(packages) < 2:
        return CheckResult(name, Status.OK, packages[0] if packages else "from the system")
    if module == "cv2":
        keep = None if jetson else _opencv_package(packages, display=display)
    else:
        keep = "onnxruntime-gpu" if gpu and "onnxruntime-gpu" in packages else "onnxruntime"
    fix = f"pip uninstall -y {' '.join(packages)}"
    if keep is not None:
        fix += f" && pip install {keep}"
    return CheckResult(name, Status.PROBLEM, f"{' and '.join(packages)} overwrite each other", fix)


def _opencv_package(packages: Sequence[str], *, display: bool) -> str:
    contrib = "-contrib" if any("contrib" in package for package in packages) else ""
    return f"opencv{contrib}-python{'' if display else '-headless'}"
