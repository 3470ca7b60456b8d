"""Wheels that own the same folder: the one installed last has overwritten parts of the others."""

from __future__ import annotations

from collections.abc import Sequence

from .findings import Finding, Status


def clash(module: str, owners: Sequence[str], *, gpu: bool, display: bool, jetson: bool) -> Finding:
    """Whether more than one wheel owns a module's folder, and how to be left with the one that fits this machine.

    module: ``onnxruntime`` or ``cv2``. gpu: an NVIDIA GPU that wheels have kernels for. display: windows can open.
    """
    name = f"wheels of {module}"
    if len(owners) < 2:
        return Finding(name, Status.OK, owners[0] if owners else "the system's own")
    if module == "cv2":
        keep = None if jetson else _opencv(owners, display=display)
    else:
        keep = "onnxruntime-gpu" if gpu and "onnxruntime-gpu" in owners else "onnxruntime"
    fix = f"pip uninstall -y {' '.join(owners)}"
    if keep is not None:
        fix += f" && pip install {keep}"
    return Finding(name, Status.PROBLEM, f"{' and '.join(owners)} overwrite each other", fix)


def _opencv(owners: Sequence[str], *, display: bool) -> str:
    """With the additional modules where somebody has installed them; with windows where they can open."""
    contrib = "-contrib" if any("contrib" in owner for owner in owners) else ""
    return f"opencv{contrib}-python{'' if display else '-headless'}"
