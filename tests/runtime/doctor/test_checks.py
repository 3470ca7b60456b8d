from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import pytest

from mien.runtime.doctor import checks, machine, trials
from mien.runtime.doctor.check_result import CheckResult, Status
from mien.runtime.doctor.checks import run_checks
from mien.runtime.doctor.machine import cpu_features, memory_gb
from mien.runtime.doctor.packages import LIBRARIES
from mien.runtime.doctor.trials import try_provider, windows_command
from mien.runtime.errors import ProviderError, next_step
from mien.runtime.models.runner import Provider
from mien.tests.fakes.fake_capture import FakeVideo, picture


def test_everything_is_looked_at_and_the_cpu_really_runs() -> None:
    results = {result.name: result for result in run_checks()}
    assert {"Python", "CPU", "mien", "PyTorch", "extra train", "ONNX Runtime", "OpenCV", "numpy", "camera"} <= set(
        results
    )
    assert results["runs on cpu"].found == "yes, verified on cpu"
    assert all(f.status is not Status.PROBLEM or f.fix for f in results.values())


@pytest.mark.parametrize(
    "error",
    [
        ProviderError("libcublasLt.so.13 is missing; install it"),
        RuntimeError("CUDA failure 209; install it"),
        OSError("libcuda; install it"),
    ],
)
def test_a_provider_that_does_not_run_is_told_with_its_reason(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def refuses(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(trials, "open_model", refuses)
    monkeypatch.setattr(trials, "compiled_in", lambda provider: provider is Provider.CPU)
    told = str(error).removesuffix("; install it")
    assert try_provider(Provider.CUDA) == CheckResult("runs on cuda", Status.NOTE, told, "install it")
    assert try_provider(Provider.CPU).status is Status.PROBLEM
    monkeypatch.setattr(trials, "compiled_in", lambda _: True)  # whoever installed it wants it to run
    assert try_provider(Provider.CUDA).status is Status.PROBLEM


def test_a_provider_that_fails_in_its_first_call_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    from onnxruntime.capi.onnxruntime_pybind11_state import Fail

    from mien.runtime.backends.ort import onnx_runner, onnx_session

    class FailsInCalls:
        def __init__(self, session: object) -> None:
            self._session = session

        def __getattr__(self, name: str) -> object:
            return getattr(self._session, name)

        def run(self, *_: object) -> None:
            raise Fail("CUDA failure 209: no kernel image")

    def on_cuda(path: Path, **_: object) -> onnx_session.OpenSession:
        session = onnx_session.open_session(path, provider=Provider.CPU, threads=1).session
        return onnx_session.OpenSession(FailsInCalls(session))

    monkeypatch.setattr(onnx_runner, "open_session", on_cuda)
    found = try_provider(Provider.CUDA)
    assert "cuda failed while landmarks ran (CUDA failure 209" in found.found and "--provider cpu" in found.fix


def test_every_result_about_a_provider_says_what_to_do() -> None:
    results = [try_provider(provider) for provider in (Provider.CUDA, Provider.TENSORRT, Provider.ORT_TENSORRT)]
    assert all(result.status is Status.OK or result.fix for result in results)


@pytest.mark.parametrize(
    ("text", "told", "step"),
    [
        ("expected a, found b; take c", "expected a, found b", "take c"),
        ("a; b; c (d)", "a; b", "c (d)"),
        ("could not build it (no memory; canceled)", "could not build it (no memory; canceled)", ""),
        ("nothing to do", "nothing to do", ""),
    ],
)
def test_next_step_of_an_error(text: str, told: str, step: str) -> None:
    assert next_step(ProviderError(text)) == (told, step)


@pytest.mark.parametrize("kind", [RuntimeError, TypeError, cv2.error])
def test_a_check_that_fails_unforeseen_is_a_problem(monkeypatch: pytest.MonkeyPatch, kind: type[Exception]) -> None:
    def _gpu() -> Iterator[CheckResult]:
        yield CheckResult("GPU", Status.OK, "there")
        raise kind("the driver is gone")

    monkeypatch.setattr(checks, "CHECKS", (_gpu,))
    assert [f.status for f in run_checks()][:2] == [Status.OK, Status.PROBLEM]
    assert list(run_checks())[1].found == "check failed: the driver is gone"


def test_every_camera_takes_a_picture_as_in_webcam(monkeypatch: pytest.MonkeyPatch) -> None:
    devices = [Path(f"/dev/video{n}") for n in range(3)]
    videos = {
        "/dev/video0": FakeVideo([picture(6, 4)]),
        "/dev/video1": FakeVideo([False]),
        "/dev/video2": FakeVideo([]),
    }
    monkeypatch.setattr(Path, "glob", lambda *_: devices)
    monkeypatch.setattr(os, "access", lambda path, _: path != devices[2])
    monkeypatch.setattr(cv2, "VideoCapture", lambda name, *_: videos[name])
    works, metadata, shut = trials.try_cameras()
    assert works == CheckResult("camera", Status.OK, "/dev/video0: 6x4") and videos["/dev/video0"].released
    assert metadata.status is Status.NOTE and "/dev/video1 can be opened, but delivers no picture" in metadata.found
    assert shut.status is Status.PROBLEM and "usermod" in shut.fix


def test_memory_and_features_are_read_from_the_kernel(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 8000000 kB\nMemAvailable:    2000000 kB\n")
    assert memory_gb("MemAvailable", tmp_path / "meminfo") == pytest.approx(2.048)
    assert memory_gb("MemAvailable", tmp_path / "none") is None
    (tmp_path / "cpuinfo").write_text("flags : fpu avx2 avx512_vnni\n")
    assert cpu_features(tmp_path / "cpuinfo") == ["avx2", "avx512_vnni"] and cpu_features(tmp_path / "none") == []


def test_a_gpu_is_told_by_nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'NVIDIA H100, 580.65, 80000 MiB, 9.0'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert next(machine.check_nvidia()).found == "NVIDIA H100, 580.65, 80000 MiB, 9.0"
    tool.write_text("#!/bin/sh\necho 'NVIDIA-SMI has failed' >&2\nexit 9\n")
    (found,) = machine.check_nvidia()
    assert found.status is Status.PROBLEM and found.found == "NVIDIA-SMI has failed" and found.fix


def test_an_engine_that_is_tried_is_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mien.runtime.backends.trt import engine_runner
    from mien.tests.fakes.fake_accelerator import fake_accelerator

    monkeypatch.setenv("MIEN_CACHE", str(tmp_path))
    monkeypatch.setattr(engine_runner, "find_accelerator", fake_accelerator)
    assert try_provider(Provider.TENSORRT).found == "yes, verified on tensorrt"
    assert not list(tmp_path.iterdir()) and os.environ["MIEN_CACHE"] == str(tmp_path)


@pytest.mark.parametrize("missing", [["numpy"], ["cv2"], ["onnxruntime"], ["numpy", "cv2", "onnxruntime"]])
def test_the_doctor_works_without_the_libraries(missing: list[str]) -> None:
    code = (
        f"import sys, runpy; sys.modules.update(dict.fromkeys({missing})); sys.argv = ['mien', *sys.argv[1:]]; "
        "runpy.run_module('mien', run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", code, "doctor", "--json"], capture_output=True, text=True)
    found = {row["name"]: row for row in json.loads(done.stdout)}
    assert done.returncode == 1 and "Traceback" not in done.stderr
    for module in missing:
        row = found[LIBRARIES[module]]
        assert row["status"] == "problem" and row["found"] == "not installed" and "install" in row["fix"]
    assert found["providers, window, camera"]["found"].startswith("not tried without")
    other = subprocess.run([sys.executable, "-c", code, "info", "x.onnx"], capture_output=True, text=True)
    assert other.returncode == 2 and "Traceback" not in other.stderr and "mien doctor" in other.stderr


@pytest.mark.parametrize("contrib", ["", "-contrib"])
def test_windows_replace_the_headless_package_rather_than_join_it(
    monkeypatch: pytest.MonkeyPatch, contrib: str
) -> None:
    headless = f"opencv{contrib}-python-headless"
    monkeypatch.setattr(trials, "installed_version", lambda name: "4.10" if name == headless else None)
    assert windows_command() == f"pip uninstall -y {headless} && pip install opencv{contrib}-python"
    monkeypatch.setattr(trials, "installed_version", lambda name: None)
    assert "pip install" not in windows_command()
