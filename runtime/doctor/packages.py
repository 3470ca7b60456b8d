"""Checks the Python packages: the required libraries, PyTorch, mien and its extras."""

from __future__ import annotations

import contextlib
import io
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, distributions, requires, version
from pathlib import Path

from ... import __version__
from ..output.display import has_display
from .check_result import CheckResult, Status

LIBRARIES = {"numpy": "numpy", "cv2": "OpenCV", "onnxruntime": "ONNX Runtime"}
"""Modules that every command but the doctor needs, with the names people know them by."""
EXTRAS = {
    "train": "training and export",
    "serve": "the live page",
    "ray": "predict on several machines",
    "demo": "the demo camera",
}
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Machine:
    """Properties of the machine that determine the variants of packages.

    Attributes:
        gpu: There is an NVIDIA GPU that the packages on PyPI support.
        display: Windows can be shown.
        jetson: The machine is a Jetson, whose OpenCV comes with the system.
    """

    gpu: bool
    display: bool
    jetson: bool

    @classmethod
    def here(cls) -> Machine:
        """Look at this machine."""
        jetson = Path("/etc/nv_tegra_release").is_file()
        return cls(shutil.which("nvidia-smi") is not None and not jetson, has_display(), jetson)


def check_packages() -> Iterator[CheckResult]:
    """Check mien, the libraries that it cannot do without, duplicates of these, PyTorch and the extras."""
    machine = Machine.here()
    own = installed_version("mien") is not None
    how = "" if own else ", not installed, run from its folder"
    yield CheckResult("mien", Status.OK, f"{__version__}{how}, in {ROOT}")
    for module, name in LIBRARIES.items():
        packages = packages_with(module)
        yield check_library(module, name, packages, machine)
        if len(packages) > 1:
            yield duplicate_packages(module, packages, machine)
    yield check_torch(installed_version("torch"), machine)
    for extra, purpose in EXTRAS.items():
        yield check_extra(extra, purpose, requires("mien") or () if own else ())


def packages_with(module: str) -> list[str]:
    """Return the names of the installed packages that contain a module.

    Unlike `packages_distributions` of Python 3.10, it also finds packages that list no modules, such as numpy.
    """
    return sorted(
        {
            package.metadata["Name"]
            for package in distributions()
            if module in (package.read_text("top_level.txt") or "").split()
            or f"\n{module}/__init__.py," in f"\n{package.read_text('RECORD') or ''}"
        }
    )


def check_library(module: str, name: str, packages: Sequence[str], machine: Machine) -> CheckResult:
    """Import a library.

    Args:
        module: Its module.
        name: Its name.
        packages: Installed packages that provide the module; none for one from the system.
        machine: Decides which package to install.
    """
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # where OpenCV says that it lacks numpy
            found = import_module(module)
    except Exception as error:  # noqa: BLE001 - a library that is broken or does not fit the others can raise anything
        if isinstance(error, ModuleNotFoundError) and error.name == module:
            return CheckResult(name, Status.PROBLEM, "not installed", install_command(module, machine))
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        fix = _repair(module, str(error), packages, machine)
        return CheckResult(name, Status.PROBLEM, f"import fails: {reason}", fix)
    source = " and ".join(packages) or "the system"
    return CheckResult(name, Status.OK, f"{getattr(found, '__version__', 'unknown version')}, from {source}")


def install_command(module: str, machine: Machine) -> str:
    """Return the command that installs the variant of a library that fits the machine.

    Args:
        module: ``numpy``, ``cv2`` or ``onnxruntime``.
        machine: The machine.
    """
    if module == "cv2":
        if machine.jetson:
            return "sudo apt install python3-opencv; use a venv made with --system-site-packages"
        return f"pip install opencv-python{'' if machine.display else '-headless'}"
    if module == "onnxruntime":
        return "pip install 'onnxruntime-gpu[cuda,cudnn]'" if machine.gpu else "pip install onnxruntime"
    return "pip install 'numpy<2'" if machine.jetson else "pip install numpy"


def _repair(module: str, error: str, packages: Sequence[str], machine: Machine) -> str:
    if "numpy.core" in error or "_ARRAY_API" in error or "multiarray" in error:
        return "it was built for NumPy 1: pip install 'numpy<2'"
    if module == "cv2" and "cannot open shared object file" in error and len(packages) == 1:
        if machine.display:
            return "sudo apt install libgl1 libglib2.0-0"
        return f"pip uninstall -y {packages[0]} && pip install opencv-python-headless"
    return f"pip install --force-reinstall {packages[0]}" if packages else install_command(module, machine)


def duplicate_packages(module: str, packages: Sequence[str], machine: Machine) -> CheckResult:
    """Report a module provided by several packages, and keep the one that fits this machine.

    Args:
        module: ``onnxruntime`` or ``cv2``.
        packages: Two or more installed packages that provide it.
        machine: Decides which of them stays.

    Returns:
        Result whose fix uninstalls all of them and reinstalls one.
    """
    keep: str | None = "onnxruntime-gpu" if machine.gpu and "onnxruntime-gpu" in packages else "onnxruntime"
    if module == "cv2":
        contrib = "-contrib" if any("contrib" in package for package in packages) else ""
        keep = None if machine.jetson else f"opencv{contrib}-python{'' if machine.display else '-headless'}"
    fix = f"pip uninstall -y {' '.join(packages)}" + (f" && pip install {keep}" if keep else "")
    return CheckResult(f"{module} package", Status.PROBLEM, f"{' and '.join(packages)} overwrite each other", fix)


def check_torch(found: str | None, machine: Machine) -> CheckResult:
    """Report PyTorch, which only training and the eager baselines of `mien bench` need.

    Args:
        found: Installed version, if any.
        machine: Without a GPU, PyTorch's own index has packages of a tenth of the size.
    """
    if found is not None:
        return CheckResult("PyTorch", Status.OK, found)
    smaller = "" if machine.gpu else " --extra-index-url https://download.pytorch.org/whl/cpu"
    return CheckResult(
        "PyTorch", Status.NOTE, "not installed; only training needs it", extra_command("train") + smaller
    )


def check_extra(extra: str, purpose: str, requirements: Sequence[str]) -> CheckResult:
    """Check that all packages of an extra are installed.

    Args:
        extra: Name of the extra.
        purpose: What it is for.
        requirements: Requirements of mien, as in its metadata.
    """
    marker = re.compile(rf"""extra == ["']{extra}["']""")
    names = [re.split(r"[^\w.-]", line, maxsplit=1)[0] for line in requirements if marker.search(line)]
    missing = [name for name in names if installed_version(name) is None]
    if names and not missing:
        return CheckResult(f"extra {extra}", Status.OK, f"installed, for {purpose}")
    found = f"without {', '.join(missing)}" if names else "not installed"
    return CheckResult(f"extra {extra}", Status.NOTE, f"{found}; only {purpose} needs it", extra_command(extra))


def extra_command(extra: str) -> str:
    """Return the command that adds an extra to this installation, or to this folder if mien is not installed."""
    return f"pip install 'mien[{extra}]'" if installed_version("mien") else f"pip install -e '{ROOT}[{extra}]'"


def installed_version(package: str) -> str | None:
    """Return the version of an installed package, or None."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None
