from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from mien.runtime.doctor import packages
from mien.runtime.doctor.check_result import Status
from mien.runtime.doctor.packages import (
    Machine,
    check_extra,
    check_library,
    check_torch,
    duplicate_packages,
    packages_with,
)

SERVER = Machine(gpu=False, display=False, jetson=False)


def test_a_module_belongs_to_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a list of modules, as setuptools writes, or without, as in numpy's wheels."""
    for name, file, text in (
        ("listing", "top_level.txt", "one\nother\n"),
        ("bare", "RECORD", "one/__init__.py,sha256=x,1\none/other/__init__.py,sha256=x,1\n"),
    ):
        folder = tmp_path / f"{name}-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (folder / file).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    assert packages_with("one") == ["bare", "listing"] and packages_with("other") == ["listing"]


@pytest.mark.parametrize(
    ("module", "owners", "machine", "fix"),
    [
        ("onnxruntime", ["onnxruntime", "onnxruntime-gpu"], {"gpu": True}, " && pip install onnxruntime-gpu"),
        ("onnxruntime", ["onnxruntime", "onnxruntime-gpu"], {}, " && pip install onnxruntime"),
        ("onnxruntime", ["onnxruntime", "onnxruntime-qnn"], {"gpu": True}, " && pip install onnxruntime"),
        ("cv2", ["opencv-python", "opencv-python-headless"], {"display": True}, " && pip install opencv-python"),
        ("cv2", ["opencv-python", "opencv-python-headless"], {}, " && pip install opencv-python-headless"),
        ("cv2", ["opencv-contrib-python", "opencv-python"], {"display": True}, " && pip install opencv-contrib-python"),
        ("cv2", ["opencv-contrib-python", "opencv-python"], {}, " && pip install opencv-contrib-python-headless"),
        ("cv2", ["opencv-python", "opencv-python-headless"], {"jetson": True, "display": True}, ""),
    ],
)
def test_two_wheels_of_one_folder_leave_the_one_that_fits(
    module: str, owners: list[str], machine: dict[str, bool], fix: str
) -> None:
    found = duplicate_packages(module, owners, replace(SERVER, **machine))
    assert found.status is Status.PROBLEM
    assert found.fix == f"pip uninstall -y {' '.join(owners)}{fix}"


@pytest.mark.parametrize(
    ("module", "machine", "fix"),
    [
        ("cv2", {"display": True}, "pip install opencv-python"),
        ("cv2", {}, "pip install opencv-python-headless"),
        ("cv2", {"jetson": True}, "python3-opencv"),
        ("onnxruntime", {"gpu": True}, "pip install 'onnxruntime-gpu[cuda,cudnn]'"),
        ("onnxruntime", {}, "pip install onnxruntime"),
        ("numpy", {"jetson": True}, "pip install 'numpy<2'"),
    ],
)
def test_a_missing_library_comes_in_the_variant_that_fits(
    monkeypatch: pytest.MonkeyPatch, module: str, machine: dict[str, bool], fix: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    found = check_library(module, "it", [], replace(SERVER, **machine))
    assert found.status is Status.PROBLEM and found.found == "not installed" and fix in found.fix


@pytest.mark.parametrize(
    ("error", "machine", "fix"),
    [
        (
            ImportError("libGL.so.1: cannot open shared object file: No such file or directory"),
            {},
            "pip uninstall -y opencv-python && pip install opencv-python-headless",
        ),
        (ImportError("libGL.so.1: cannot open shared object file"), {"display": True}, "sudo apt install libgl1"),
        (ImportError("numpy.core.multiarray failed to import"), {}, "pip install 'numpy<2'"),
        (ImportError("DLL load failed"), {}, "pip install --force-reinstall opencv-python"),
        (ValueError("numpy.dtype size changed"), {}, "pip install --force-reinstall opencv-python"),
    ],
)
def test_a_library_that_cannot_be_loaded_is_repaired(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, machine: dict[str, bool], fix: str
) -> None:
    (tmp_path / "cv2.py").write_text(f"raise {error!r}\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "cv2", raising=False)
    found = check_library("cv2", "OpenCV", ["opencv-python"], replace(SERVER, **machine))
    assert found.status is Status.PROBLEM and found.found == f"import fails: {error}" and fix in found.fix


def test_extras_name_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "installed_version", lambda name: None if name == "ray" else "1.0")
    needs = ["numpy>=1.26", 'ray[data]>=2.60; extra == "ray"', "starlette>=0.46; extra == 'serve'"]
    assert check_extra("serve", "the live page", needs).status is Status.OK
    ray = check_extra("ray", "several machines", needs)
    assert ray.status is Status.NOTE and "without ray" in ray.found and "mien[ray]" in ray.fix


def test_pytorch_for_the_cpu_is_named_where_there_is_no_gpu() -> None:
    assert "/whl/cpu" in check_torch(None, SERVER).fix
    assert "/whl/cpu" not in check_torch(None, replace(SERVER, gpu=True)).fix
    assert check_torch("2.14.1", SERVER).status is Status.OK
