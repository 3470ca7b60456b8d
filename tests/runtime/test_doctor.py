from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from mien.runtime import doctor
from mien.runtime.doctor import Finding, Status, clash, cpu_features, examine, free_memory_gb, to_row, try_provider
from mien.runtime.errors import ProviderError
from mien.runtime.runner import Provider


def test_everything_is_looked_at_and_the_cpu_really_runs() -> None:
    findings = {finding.name: finding for finding in examine()}
    assert {"Python", "CPU", "wheels of onnxruntime", "ONNX Runtime", "OpenCV", "camera"} <= set(findings)
    assert findings["runs on cpu"].found == "yes, really on cpu"
    assert all(f.status is not Status.PROBLEM or f.fix for f in findings.values())


def test_two_wheels_of_one_folder_are_a_problem_with_a_way_out() -> None:
    found = clash("onnxruntime", ["onnxruntime", "onnxruntime-gpu"], "onnxruntime-gpu")
    assert found.status is Status.PROBLEM
    assert found.fix == "pip uninstall -y onnxruntime onnxruntime-gpu && pip install onnxruntime-gpu"
    assert clash("cv2", ["opencv-python"], "opencv-python").status is Status.OK
    assert clash("cv2", [], "opencv-python").found == "the system's own"


def test_a_provider_that_does_not_run_is_told_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*_: object, **__: object) -> None:
        raise ProviderError("libcublasLt.so.13 is missing")

    monkeypatch.setattr(doctor, "open_model", refuses)
    assert try_provider(Provider.CUDA) == Finding("runs on cuda", Status.NOTE, "libcublasLt.so.13 is missing")
    assert try_provider(Provider.CPU).status is Status.PROBLEM


def test_a_check_that_fails_unforeseen_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def _gpu() -> Iterator[Finding]:
        yield Finding("GPU", Status.OK, "there")
        raise RuntimeError("the driver is gone")

    monkeypatch.setattr(doctor, "CHECKS", (_gpu,))
    assert [f.status for f in examine()] == [Status.OK, Status.PROBLEM]
    assert to_row(list(examine())[1])["found"] == "could not be looked at: the driver is gone"


def test_memory_and_features_are_read_from_the_kernel(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 8000000 kB\nMemAvailable:    2000000 kB\n")
    assert free_memory_gb(tmp_path / "meminfo") == pytest.approx(2.048)
    assert free_memory_gb(tmp_path / "none") is None
    (tmp_path / "cpuinfo").write_text("flags : fpu avx2 avx512_vnni\n")
    assert cpu_features(tmp_path / "cpuinfo") == ["avx2", "avx512_vnni"] and cpu_features(tmp_path / "none") == []


def test_a_gpu_is_told_by_nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'NVIDIA H100, 580.65, 80000 MiB, 9.0'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert next(doctor._nvidia()).found == "NVIDIA H100, 580.65, 80000 MiB, 9.0"
    tool.write_text("#!/bin/sh\necho 'NVIDIA-SMI has failed' >&2\nexit 9\n")
    (found,) = doctor._nvidia()
    assert found.status is Status.PROBLEM and found.found == "NVIDIA-SMI has failed" and found.fix


def test_an_engine_that_is_tried_is_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mien.runtime import engine_runner
    from mien.runtime.fake_accelerator import fake_accelerator

    monkeypatch.setenv("MIEN_CACHE", str(tmp_path))
    monkeypatch.setattr(engine_runner, "find_accelerator", fake_accelerator)
    assert try_provider(Provider.TENSORRT).found == "yes, really on tensorrt"
    assert not list(tmp_path.iterdir()) and os.environ["MIEN_CACHE"] == str(tmp_path)
