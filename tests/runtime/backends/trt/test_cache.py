"""Engines are built once, kept, and never used for what they were not built for."""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from mien.runtime.atomic_file import write_atomic
from mien.runtime.backends.trt.cache import engine_key, open_engine
from mien.runtime.backends.trt.device import Gpu
from mien.runtime.backends.trt.store import check_engine_folder, last_profile
from mien.runtime.errors import InputError, ModelError, OutputError, ProviderError
from mien.runtime.models.input_shapes import Profile, profile_for
from mien.runtime.models.model_file import model_spec
from mien.runtime.models.shipped import shipped_model
from mien.tests.fakes.fake_accelerator import ORIN, fake_accelerator
from mien.tests.fakes.fake_engine import ILogger
from mien.tests.fakes.fake_tensorrt import Builder, BuilderFlag, IBuilderConfig
from mien.tests.processes import started

LANDMARKS = shipped_model("landmarks")


def plans(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.plan"))


def test_engine_is_built_once_and_then_loaded(tmp_path: Path) -> None:
    seen = []
    first = open_engine(LANDMARKS, fake_accelerator(), folder=tmp_path, progress=lambda *at: seen.append(at))
    assert (first.reason, [fraction for _, fraction in seen]) == ("none was built yet", [0.25, 0.5, 0.75, 1.0])
    second = open_engine(LANDMARKS, fake_accelerator(), folder=tmp_path, progress=lambda *at: seen.append(at))
    assert second.reason == ""
    assert len(seen) == 4
    assert second.path == first.path == plans(tmp_path)[0]
    assert (second.types, second.spec) == ({"FLOAT": 4}, model_spec(LANDMARKS))


def test_sidecar_tells_all_that_the_engine_depends_on(tmp_path: Path) -> None:
    engine = open_engine(LANDMARKS, fake_accelerator(), folder=tmp_path)
    assert engine.path is not None
    told = json.loads(engine.path.with_suffix(".json").read_text())
    assert told["key"] == {
        "model_sha256": told["key"]["model_sha256"],
        "tensorrt": "10.3.0",
        "gpu": "Orin",
        "compute_capability": "8.7",
        "driver": "CUDA 12.6",
        "profile": "1×112×112×3–1×112×112×3–16×112×112×3",
        "flags": "strongly typed, without TF32",
    }
    assert len(told["key"]["model_sha256"]) == len(told["plan_sha256"]) == 64
    assert told["spec"]["task"] == "landmarks"
    assert (tmp_path / "timings-7970ccc4f28bbe27.cache").read_bytes() == b"timings of 10.3.0"


@pytest.mark.parametrize(
    ("machine", "reason"),
    [
        ({"version": "10.13.3.9"}, "tensorrt was 10.3.0, is 10.13.3.9"),
        ({"gpu": Gpu("Thor", "11.0", "CUDA 12.6")}, "gpu was Orin, is Thor, compute capability was 8.7, is 11.0"),
        ({"gpu": Gpu("Orin", "8.7", "CUDA 13.2")}, "driver was CUDA 12.6, is CUDA 13.2"),
    ],
)
def test_engine_of_another_machine_is_rebuilt_with_the_reason(tmp_path: Path, machine: dict, reason: str) -> None:
    old = open_engine(LANDMARKS, fake_accelerator(), folder=tmp_path)
    new = open_engine(LANDMARKS, fake_accelerator(**machine), folder=tmp_path)
    assert new.reason == reason
    assert new.path != old.path
    assert open_engine(LANDMARKS, fake_accelerator(), folder=tmp_path).reason == ""


def test_changed_model_is_rebuilt(tmp_path: Path) -> None:
    model = tmp_path / "face.onnx"
    shutil.copy(LANDMARKS, model)
    open_engine(model, fake_accelerator(), folder=tmp_path / "engines")
    shutil.copy(shipped_model("age_gender"), model)
    assert open_engine(model, fake_accelerator(), folder=tmp_path / "engines").reason == "the model file changed"


@pytest.mark.parametrize("damage", [lambda plan: plan[:-100], lambda plan: b"", lambda plan: plan[:-1] + b"!"])
def test_damaged_engine_is_rebuilt(tmp_path: Path, damage) -> None:
    path = open_engine(LANDMARKS, fake_accelerator(), folder=tmp_path).path
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    assert open_engine(LANDMARKS, fake_accelerator(), folder=tmp_path).reason == f"{path.name} is damaged"
    assert path.read_bytes() == whole


def test_engine_under_another_ones_name_is_not_loaded(tmp_path: Path) -> None:
    """As after a folder was copied from another machine, and its files renamed."""
    foreign = open_engine(LANDMARKS, fake_accelerator(gpu=Gpu("Thor", "11.0", "CUDA 12.6")), folder=tmp_path / "a").path
    own = open_engine(LANDMARKS, fake_accelerator(), folder=tmp_path / "b").path
    for suffix in (".plan", ".json"):
        shutil.copy(foreign.with_suffix(suffix), own.with_suffix(suffix))
    assert "belongs to another engine" in open_engine(LANDMARKS, fake_accelerator(), folder=tmp_path / "b").reason


def test_engine_that_tensorrt_refuses_is_rebuilt(tmp_path: Path) -> None:
    """Its sidecar vouches for it, and still TensorRT gives None."""
    path = open_engine(LANDMARKS, fake_accelerator(), folder=tmp_path).path
    path.write_bytes(b"not a plan")
    sidecar = path.with_suffix(".json")
    told = json.loads(sidecar.read_text())
    told["plan_sha256"] = hashlib.sha256(b"not a plan").hexdigest()
    sidecar.write_text(json.dumps(told))
    assert open_engine(LANDMARKS, fake_accelerator(), folder=tmp_path).reason == "TensorRT does not load the cached one"


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"format": 2}', '{"format": 1, "key": {}}'])
def test_unreadable_sidecar_is_rebuilt(tmp_path: Path, text: str) -> None:
    path = open_engine(LANDMARKS, fake_accelerator(), folder=tmp_path).path
    path.with_suffix(".json").write_text(text)
    assert "cannot be read" in open_engine(LANDMARKS, fake_accelerator(), folder=tmp_path).reason


def test_engine_that_is_never_loadable_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    accelerator = fake_accelerator()
    monkeypatch.setattr("mien.runtime.backends.trt.cache.load_engine", lambda *_: None)
    with pytest.raises(ProviderError, match="does not load the engine that it built"):
        open_engine(LANDMARKS, accelerator, folder=tmp_path)
    assert not plans(tmp_path)


def test_engine_in_another_precision_than_the_file_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mien.runtime.backends.trt.cache.engine_types", lambda *_: {"HALF": 3, "FLOAT": 1})
    with pytest.raises(ProviderError, match="fp32, but TensorRT's engine has layers: 1 in FLOAT, 3 in HALF"):
        open_engine(LANDMARKS, fake_accelerator(), folder=tmp_path)
    assert not plans(tmp_path)


def test_build_without_memory_is_told(tmp_path: Path) -> None:
    with pytest.raises(ProviderError, match=r"OutOfMemory.*--workspace-mb 256$"):
        open_engine(LANDMARKS, fake_accelerator(memory_mb=512), folder=tmp_path)
    assert open_engine(LANDMARKS, fake_accelerator(memory_mb=512), folder=tmp_path, workspace_mb=256).path is not None


@pytest.mark.parametrize(
    ("said", "hint"),
    [
        ("Error Code 2: OutOfMemory (Requested size was not available)", "; close other programs, or use less: "),
        ("no tactics within workspace limit. Consider increase the workspace", "; use more than --workspace-mb 1024"),
        ("Dimension mismatch", ""),
    ],
)
def test_build_that_fails_has_a_hint_that_fits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, hint: str
) -> None:
    def fails(builder: Builder, *_: object) -> None:
        builder._logger.log(ILogger.Severity.ERROR, said)

    monkeypatch.setattr(Builder, "build_serialized_network", fails)
    with pytest.raises(ProviderError) as told:
        open_engine(LANDMARKS, fake_accelerator(), folder=tmp_path)
    assert f"({said}){hint}" in str(told.value) and ("--workspace-mb" in str(told.value)) == bool(hint)


def test_float_is_never_rounded_to_tf32(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cleared: list[BuilderFlag] = []
    monkeypatch.setattr(IBuilderConfig, "clear_flag", lambda _, flag: cleared.append(flag))
    open_engine(LANDMARKS, fake_accelerator(), folder=tmp_path)
    assert cleared == [BuilderFlag.TF32]


def test_engine_from_before_the_flags_changed_is_rebuilt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mien.runtime.backends.trt.cache._FLAGS", "strongly typed")
    open_engine(LANDMARKS, fake_accelerator(), folder=tmp_path)
    monkeypatch.undo()
    wanted = "flags was strongly typed, is strongly typed, without TF32"
    assert open_engine(LANDMARKS, fake_accelerator(), folder=tmp_path).reason == wanted


def test_no_gpu_is_told(tmp_path: Path) -> None:
    with pytest.raises(ProviderError, match="CUDA initialization failure"):
        open_engine(LANDMARKS, fake_accelerator(gpu_present=False), folder=tmp_path)


def test_file_that_is_no_model_is_told(tmp_path: Path) -> None:
    (tmp_path / "no.onnx").write_bytes(b"nothing")
    with pytest.raises(ModelError, match="not a model"):
        open_engine(tmp_path / "no.onnx", fake_accelerator(), folder=tmp_path)


def test_folder_that_cannot_be_written_leaves_the_engine_in_memory(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()  # a folder below it cannot be made, by root neither
    engine = open_engine(LANDMARKS, fake_accelerator(), folder=tmp_path / "file" / "engines")
    assert (engine.path, engine.reason) == (None, "none was built yet")
    assert engine.engine is not None
    assert "cannot be saved" in caplog.text
    with pytest.raises(OutputError, match="MIEN_CACHE"):
        check_engine_folder(tmp_path / "file" / "engines")


def test_full_disk_leaves_no_half_of_an_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, content: bytes) -> int:
        path.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mien.runtime.atomic_file.os.replace", full)
    assert open_engine(LANDMARKS, fake_accelerator(), folder=tmp_path).path is None
    assert [p.suffix for p in tmp_path.iterdir()] == [".lock"]


def test_two_threads_build_one_engine(tmp_path: Path, in_threads) -> None:
    reasons = []
    machine = fake_accelerator()

    def build(_: int) -> None:
        machine.device.set_current()
        reasons.append(open_engine(LANDMARKS, machine, folder=tmp_path).reason)

    in_threads(build)
    assert sorted(reasons) == ["", "", "", "none was built yet"]


SLOW_BUILD = """
import sys, time
from pathlib import Path
from mien.runtime.backends.trt.cache import open_engine
from mien.tests.fakes.fake_accelerator import fake_accelerator
from mien.runtime.models.shipped import shipped_model
def slowly(what, fraction):
    print("building", flush=True)
    sys.stdin.read()
engine = open_engine(shipped_model("landmarks"), fake_accelerator(), folder=Path(sys.argv[1]), progress=slowly)
print(repr(engine.reason))
"""
PIPES = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)


def test_two_processes_build_one_engine(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SLOW_BUILD, tmp_path]
    with started(*command, **PIPES) as first:
        assert first.stdout is not None and first.stdout.readline() == "building\n"
        with started(*command, **PIPES) as second:
            assert second.stderr is not None and "another process is building" in second.stderr.readline()
            rest, _ = first.communicate(timeout=60)
            assert rest.splitlines()[-1] == "'none was built yet'"
            assert second.communicate(timeout=60)[0].splitlines() == ["''"]


def test_lock_of_a_process_that_died_does_not_hold(tmp_path: Path) -> None:
    with started(sys.executable, "-c", SLOW_BUILD, tmp_path, **PIPES) as first:
        assert first.stdout is not None
        first.stdout.readline()
        first.kill()
        first.communicate()
        assert open_engine(LANDMARKS, fake_accelerator(), folder=tmp_path).reason == "none was built yet"


def test_interrupt_ends_a_build(tmp_path: Path) -> None:
    def interrupt(_: str, fraction: float) -> None:
        if fraction == 0.5:
            os.kill(os.getpid(), 2)
        assert fraction <= 0.5, "went on building"

    with pytest.raises(KeyboardInterrupt):
        open_engine(LANDMARKS, fake_accelerator(), folder=tmp_path, progress=interrupt)
    assert not plans(tmp_path)


def test_profile_of_the_last_build_is_used(tmp_path: Path) -> None:
    machine = fake_accelerator()
    assert last_profile(tmp_path, LANDMARKS.stem, engine_key(LANDMARKS, machine)) is None
    own = profile_for(model_spec(LANDMARKS), batch=(1, 4, 32))
    open_engine(LANDMARKS, machine, folder=tmp_path, profile=own)
    assert last_profile(tmp_path, LANDMARKS.stem, engine_key(LANDMARKS, machine)) == own
    engine = open_engine(LANDMARKS, machine, folder=tmp_path)
    assert (engine.profile, engine.reason) == (own, "")
    other = engine_key(LANDMARKS, fake_accelerator(version="11.4.0"))
    assert last_profile(tmp_path, LANDMARKS.stem, other) is None


def test_other_files_in_the_folder_do_not_disturb(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "landmarks-nonsense.json").write_text("{")
    (tmp_path / "landmarks-2-0123456789abcdef.json").write_text("{}")
    with caplog.at_level(logging.WARNING):
        assert open_engine(LANDMARKS, fake_accelerator(), folder=tmp_path).reason == "none was built yet"


@pytest.mark.parametrize("batch", [(0, 1, 2), (2, 1, 4), (1, 8, 4)])
def test_batches_out_of_order_are_refused(batch: tuple[int, int, int]) -> None:
    with pytest.raises(InputError, match="minimum, optimum and maximum"):
        profile_for(model_spec(LANDMARKS), batch=batch)


@pytest.mark.parametrize(
    ("name", "size"), [("landmarks", {"batch": (1, 1, 60_000)}), ("detector", {"max_side": 30_000})]
)
def test_inputs_that_no_tensor_holds_are_refused(name: str, size: dict) -> None:
    with pytest.raises(InputError, match="at most 2147483647 values, found"):
        profile_for(model_spec(shipped_model(name)), **size)


@pytest.mark.parametrize("workspace_mb", [0, 10**14])
def test_workspace_that_no_gpu_has_is_refused(tmp_path: Path, workspace_mb: int) -> None:
    with pytest.raises(InputError, match="expected a workspace of 1 to 1048576 MB, found"):
        open_engine(LANDMARKS, fake_accelerator(), folder=tmp_path, workspace_mb=workspace_mb)


def test_profile_of_a_detector_takes_every_size() -> None:
    spec = model_spec(shipped_model("detector"))
    assert profile_for(spec, max_side=700) == Profile((1, 32, 32, 3), (1, 320, 320, 3), (1, 704, 704, 3))
    with pytest.raises(InputError, match="at least 320 px"):
        profile_for(spec, max_side=160)
    assert ORIN.name == "Orin"


# What cannot be read or locked is built anew, and never an error.


def test_plan_that_cannot_be_read_is_built_with_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = open_engine(LANDMARKS, fake_accelerator(), folder=tmp_path).path
    real = Path.read_bytes

    def denied(file: Path) -> bytes:
        if file.suffix == ".plan":
            raise PermissionError(errno.EACCES, "Permission denied", str(file))
        return real(file)

    monkeypatch.setattr(Path, "read_bytes", denied)
    wanted = f"{path.name} cannot be read (Permission denied)"
    assert open_engine(LANDMARKS, fake_accelerator(), folder=tmp_path).reason == wanted
    with pytest.raises(ProviderError, match=r"can be loaded \(landmarks-.*Permission denied\)\); mien engine"):
        open_engine(LANDMARKS, fake_accelerator(), folder=tmp_path, build=False)


OTHER_USER = """
import os, sys
from pathlib import Path
from mien.runtime.backends.trt.cache import open_engine
from mien.tests.fakes.fake_accelerator import fake_accelerator
if os.getuid() == 0:  # who may read everything
    os.setgid(65534)
    os.setuid(65534)
engine = open_engine(Path(sys.argv[1]), fake_accelerator(), folder=Path(sys.argv[2]))
print(engine.path, engine.reason)
"""


@pytest.mark.skipif(not hasattr(os, "setuid"), reason="needs users as Linux has them")
@pytest.mark.parametrize("closed", ["cache", "cache/engines", "plan"])
def test_engines_that_another_user_closed_leave_the_engine_in_memory(closed: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        base.chmod(0o755)
        model = Path(shutil.copy(LANDMARKS, base))
        engines = base / "cache" / "engines"
        plan = open_engine(model, fake_accelerator(), folder=engines).path
        engines.chmod(0o555)
        (plan if closed == "plan" else base / closed).chmod(0)
        done = subprocess.run(
            [sys.executable, "-c", OTHER_USER, str(model), str(engines)], capture_output=True, text=True, timeout=60
        )
        for folder in (base / "cache", engines):
            folder.chmod(0o755)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"None {plan.name} cannot be read (Permission denied)\n"


def test_sidecar_that_vanishes_meanwhile_does_no_harm(tmp_path: Path) -> None:
    own = profile_for(model_spec(LANDMARKS), batch=(1, 4, 32))
    open_engine(LANDMARKS, fake_accelerator(), folder=tmp_path, profile=own)
    (tmp_path / "landmarks-0123456789abcdef.json").symlink_to(tmp_path / "gone")
    assert open_engine(LANDMARKS, fake_accelerator(), folder=tmp_path).profile == own


@pytest.mark.parametrize("first", [OSError(errno.ENOLCK, "No locks available"), BlockingIOError(errno.EAGAIN, "held")])
def test_folder_without_locks_is_used_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, first: OSError
) -> None:
    answers = iter([first, OSError(errno.ENOLCK, "No locks available")])

    def flock(*_: object) -> None:
        raise next(answers)

    monkeypatch.setattr("mien.runtime.backends.trt.store.fcntl.flock", flock)
    with caplog.at_level(logging.INFO, logger="mien"):
        assert open_engine(LANDMARKS, fake_accelerator(), folder=tmp_path).path is not None
    assert "without a lock ([Errno 37] No locks available)" in caplog.text
    assert ("another process" in caplog.text) == isinstance(first, BlockingIOError)


def test_timings_that_cannot_be_kept_do_not_cost_the_engine(tmp_path: Path) -> None:
    (tmp_path / "timings-7970ccc4f28bbe27.cache").mkdir()
    assert open_engine(LANDMARKS, fake_accelerator(), folder=tmp_path).path is not None
    assert open_engine(LANDMARKS, fake_accelerator(), folder=tmp_path).reason == ""


def test_writers_of_one_file_do_not_meet(tmp_path: Path, in_threads) -> None:
    """As threads that keep different engines do, whose timings are one file."""
    in_threads(lambda i: [write_atomic(tmp_path / "timings.cache", bytes([i]) * 1000) for _ in range(100)])
    assert len((tmp_path / "timings.cache").read_bytes()) == 1000
    assert [p.name for p in tmp_path.iterdir()] == ["timings.cache"]
