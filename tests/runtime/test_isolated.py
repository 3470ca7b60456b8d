"""What crashes elsewhere is an error here."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

from mien.runtime.errors import CheckFailed, ModelError, ProcessFailed
from mien.runtime.isolated import call_isolated, error_line, is_isolated
from mien.runtime.models import first_try
from mien.runtime.models.first_try import try_first
from mien.runtime.models.model_file import ModelFile
from mien.runtime.models.shipped import shipped_model


@pytest.fixture(autouse=True)
def functions_can_be_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "odd_functions.py").write_text(ODD)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "odd_functions", raising=False)
    monkeypatch.setenv("MIEN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(first_try, "_here", set())


ODD = """
import os, signal
from pathlib import Path
from mien.runtime.errors import CheckFailed
from mien.runtime.isolated import is_isolated
def add(a, b):
    print("said on the way")
    assert is_isolated()
    return a + b
def end_by(number): os.kill(os.getpid(), number)
def refuse(): raise CheckFailed("it differs")
def fill(): raise OSError(28, "No space left on device")
def fail(): raise KeyError("who knows")
def leave(): os._exit(0)
def open_model(model, folder):
    with open(Path(folder) / "log", "a") as file:
        file.write("opened ")
    if b"bad" in model.content.read_bytes():
        os.abort()
"""


def call(name: str, *args: object) -> object:
    import odd_functions  # type: ignore[import-not-found]

    return call_isolated(getattr(odd_functions, name), *args, doing="opening x", hint="use y")


def test_results_and_errors_come_back() -> None:
    assert call("add", 2, 3) == 5 and not is_isolated()
    with pytest.raises(CheckFailed, match="it differs"):
        call("refuse")
    with pytest.raises(OSError, match="No space left"):
        call("fill")
    with pytest.raises(ProcessFailed, match=r"^crashed while opening x \(KeyError: 'who knows'\); use y$"):
        call("fail")
    with pytest.raises(ProcessFailed, match="exit code 0"):
        call("leave")


def test_nothing_of_the_working_folder_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    for name in ("json", "pickle", "subprocess"):
        (folder / f"{name}.py").write_text("raise RuntimeError('not mine')")
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [*sys.path, Path("ignored")])  # as Python itself does
    assert call("add", 2, 3) == 5


@pytest.mark.parametrize(("executable", "frozen"), [("/opt/program", False), ("/usr/bin/python3", True), (None, False)])
def test_a_program_that_contains_python_is_not_started_again(
    monkeypatch: pytest.MonkeyPatch, executable: str | None, frozen: bool
) -> None:
    monkeypatch.setattr(sys, "executable", executable)
    monkeypatch.setattr(sys, "frozen", frozen, raising=False)
    with pytest.raises(AssertionError):  # it is not isolated
        call("add", 2, 3)


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_a_crash_is_named_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(path.name for path in tmp_path.iterdir())
    for number in (signal.SIGSEGV, signal.SIGABRT, signal.SIGFPE, signal.SIGILL):
        with pytest.raises(ProcessFailed, match=f"ended by {number.name}"):
            call("end_by", int(number))
    with pytest.raises(MemoryError, match="opening x"):
        call("end_by", int(signal.SIGKILL))
    assert [name for name in sorted(path.name for path in tmp_path.iterdir()) if name != "__pycache__"] == before


def test_a_model_is_tried_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import odd_functions

    def attempt(path: Path, runtime: str = "ONNX Runtime 1") -> None:
        try_first(ModelFile.of(path), runtime=runtime, open_it=odd_functions.open_model, args=(str(tmp_path),))

    def opened() -> int:
        log = tmp_path / "log"
        return len(log.read_text().split()) if log.exists() else 0

    good, bad = tmp_path / "good.onnx", tmp_path / "bad.onnx"
    good.write_bytes(b"good")
    bad.write_bytes(b"bad")
    attempt(shipped_model("landmarks"))
    assert opened() == 0, "what ships with mien is known"
    attempt(good)
    attempt(good)
    monkeypatch.setattr(first_try, "_here", set())  # another process
    attempt(good)
    assert opened() == 1
    attempt(good, runtime="ONNX Runtime 2")
    good.write_bytes(b"changed")
    attempt(good)
    assert opened() == 3
    for _ in range(2):
        with pytest.raises(ProcessFailed, match=r"crashed while ONNX Runtime 1 opened bad\.onnx"):
            attempt(bad)
    assert opened() == 5, "what crashed is not known as good"
    monkeypatch.setenv("MIEN_CACHE", str(good))  # no folder
    monkeypatch.setattr(first_try, "_here", set())
    attempt(good)
    for name in ("MIEN_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)

    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    monkeypatch.setattr(first_try, "_here", set())
    attempt(good)


def test_a_first_try_tells_what_onnx_runtime_says(tmp_path: Path) -> None:
    from mien.runtime.backends.ort.onnx_session import open_session
    from mien.runtime.models.runner import Provider

    broken = tmp_path / "broken.onnx"
    broken.write_bytes(shipped_model("landmarks").read_bytes()[:-5000])
    with pytest.raises(ModelError, match=r"broken\.onnx is not a model that ONNX Runtime can load"):
        open_session(broken, provider=Provider.CPU, threads=1)


def test_the_error_is_found_among_the_words_around_it() -> None:
    frames = "Traceback (most recent call last):\n  File x, line 1\n    call()\n  ^^^^\n"
    trace = f"{frames}ValueError: no compiler\n\nSet A=1 for more.\n"
    assert error_line(trace) == "ValueError: no compiler"
    assert (
        error_line("Traceback (most recent call last):\n  f\nA: 1\n\nDuring handling\n\n" + trace)
        == "ValueError: no compiler"
    )
    assert error_line(f"{frames}A: it raised:\nB: no compiler\n\nSet A=1.\n") == "A: it raised: B: no compiler"
    assert error_line("one\ntwo\n") == "two" and error_line("") == "" and error_line("x" * 999) == "x" * 300
