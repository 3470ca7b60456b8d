"""Commands whose streams are closed, full or narrow, and that are ended by signals: plain exit codes, whole files."""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

import cv2
import pytest

from mien.runtime import interrupts
from mien.runtime.capture.demo_camera import find_photo
from mien.runtime.models.shipped import shipped_model
from mien.tests.clips import write_clip
from mien.tests.processes import MIEN, descendants, started, wait_for

INFO = f"info {shipped_model('detector')}"
MODULE = f"{sys.executable} -m mien.cli"


def in_shell(command: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[bytes]:
    line = f"{MODULE} {command}; exit ${{PIPESTATUS[0]}}"
    return subprocess.run(["bash", "-c", line], capture_output=True, cwd=cwd, env=os.environ | environment, check=False)


REDIRECTED = [">&-", "2>&-", "<&- >&- 2>&-", ">/dev/full", "2>/dev/full", ">/dev/full 2>&1", "| true", "2>&1 | true"]
NARROW = [{"PYTHONIOENCODING": "ascii"}, {"PYTHONIOENCODING": "cp1252"}, {"LC_ALL": "C"}]


@pytest.mark.parametrize(
    ("command", "redirected"),
    [*((INFO, where) for where in REDIRECTED), *(("predict nothing.jpg", where) for where in REDIRECTED[2::2])],
)
def test_a_broken_stream_ends_in_a_plain_exit_code(command: str, redirected: str, tmp_path: Path) -> None:
    done = in_shell(f"{command} {redirected}", tmp_path)
    told = done.stderr.decode()
    failed = command != INFO or ">/dev/full" in redirected.replace("2>/dev/full", "")
    assert done.returncode == (2 if failed else 0), told
    assert "Traceback" not in told and "Exception" not in told and len(told.splitlines()) <= 1
    if command == INFO and redirected == ">/dev/full":
        assert told == "error: cannot write to standard output (No space left on device)\n"
    assert not list(tmp_path.iterdir())


def test_the_package_is_run_as_the_command_is(tmp_path: Path) -> None:
    line = f"{sys.executable} -m mien {INFO} >/dev/full"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert (done.returncode, done.stderr) == (2, "error: cannot write to standard output (No space left on device)\n")


def test_a_live_run_goes_on_without_its_streams(tmp_path: Path) -> None:
    command = "webcam demo --no-show --max-frames 5 --fps 20 --csv faces.csv --output video.avi"
    assert in_shell(f"{command} >&- 2>&- <&-", tmp_path).returncode == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["faces.csv", "video.avi"]
    assert len((tmp_path / "faces.csv").read_text().splitlines()) > 1


@pytest.mark.parametrize(
    ("command", "narrow"),
    [
        ("train classify --backbone reslayer --weights none --summary", NARROW[0]),
        *(("doctor", narrow) for narrow in NARROW),
        *(("x ✓ ☃", narrow) for narrow in NARROW),
    ],
)
def test_a_narrow_encoding_breaks_no_text(command: str, narrow: dict[str, str], tmp_path: Path) -> None:
    done = in_shell(command, tmp_path, PYTHONUTF8="0", PYTHONCOERCECLOCALE="0", **narrow)
    text = (done.stdout + done.stderr).decode("cp1252" if "cp1252" in narrow.values() else "ascii")
    assert "Traceback" not in text and "Unicode" not in text and done.returncode in (0, 1, 2)
    expected = {"t": "224", "d": "opencv", "x": "no command"}
    assert expected[command[0]].lower() in text.lower()


def test_the_doctor_is_read_in_a_narrow_encoding_without_numpy(tmp_path: Path) -> None:
    (tmp_path / "numpy.py").write_text("raise ImportError('none here', name='numpy')")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    for command, expected in (("doctor", "-> install them"), ("info x", "mien doctor tells you")):
        done = in_shell(command, tmp_path, PYTHONIOENCODING="latin-1", PYTHONPATH=path)
        text = (done.stdout + done.stderr).decode("latin-1")
        assert done.returncode in (1, 2) and expected in text and "UnicodeEncodeError" not in text


def test_a_live_run_ends_well_when_the_reader_of_its_rows_does(tmp_path: Path) -> None:
    files = "--output video.avi --csv faces.csv --stats stats.json"
    done = in_shell(f"webcam demo --no-show --no-attributes --json - {files} | head -1", tmp_path)
    assert done.returncode == 0, done.stderr.decode()
    assert json.loads(done.stdout)["frame"] == 0
    frames = json.loads((tmp_path / "stats.json").read_text())["frames"]["processed"]
    assert len((tmp_path / "faces.csv").read_text().splitlines()) == frames + 1
    assert cv2.VideoCapture(str(tmp_path / "video.avi")).get(cv2.CAP_PROP_FRAME_COUNT) == frames
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_leaves_whole_files(name: str, tmp_path: Path) -> None:
    number = signal.Signals[name]
    files = {"--output": "video.mp4", "--json": "rows.jsonl", "--csv": "faces.csv", "--stats": "stats.json"}
    options = [word for option, file in files.items() for word in (option, tmp_path / file)]
    with started(*MIEN, "webcam", "demo", "--no-show", *options, stderr=subprocess.PIPE) as process:
        wait_for(lambda: any(path.read_bytes().count(b"\n") > 5 for path in tmp_path.glob(".mien-*.jsonl")))
        process.send_signal(number)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 128 + number, stderr
    assert {path.name for path in tmp_path.iterdir()} == set(files.values())
    assert cv2.VideoCapture(str(tmp_path / "video.mp4")).read()[0]
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert len(rows) > 5 and json.loads((tmp_path / "stats.json").read_text())["frames"]["processed"] >= len(rows)


def test_a_signal_in_predict_leaves_a_video_that_plays(tmp_path: Path) -> None:
    photo = cv2.resize(cv2.imread(str(find_photo()[0])), (320, 320))
    clip = write_clip(tmp_path / "clip.avi", [photo] * 600)
    command = [*MIEN, "predict", clip, "--json", tmp_path / "rows.jsonl", "--draw", tmp_path / "drawn"]
    with started(*command, stderr=subprocess.PIPE) as process:
        wait_for(lambda: any(path.read_bytes().count(b"\n") > 5 for path in tmp_path.glob(".mien-*.jsonl")))
        process.send_signal(signal.SIGTERM)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 143 and re.fullmatch(r"1 video, \S+ s\ninterrupted\n", stderr)
    assert 5 < len((tmp_path / "rows.jsonl").read_text().splitlines()) < 600
    assert [path.name for path in (tmp_path / "drawn").iterdir()] == ["clip.mp4"]
    assert cv2.VideoCapture(str(tmp_path / "drawn" / "clip.mp4")).read()[0]


@pytest.mark.parametrize("command", ["webcam", "predict"])
def test_a_signal_ends_a_command_whose_reader_has_stopped(command: str, tmp_path: Path) -> None:
    photo = cv2.resize(cv2.imread(str(find_photo()[0])), (320, 320))
    write_clip(tmp_path / "clip.avi", [photo] * 60)
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    options = ["--no-show", "--max-frames", "4"] if command == "webcam" else []
    line = [*MIEN, command, "clip.avi", "--no-attributes", "--json", "-", *options]
    with started(*line, cwd=tmp_path, stdout=writing, stderr=subprocess.PIPE) as process:
        waiting: list[bytes] = []

        def is_stuck() -> bool:
            """Whether there is a row, and for half a second no more: the next one does not fit."""
            waiting.append(fcntl.ioctl(reading, termios.FIONREAD, bytes(4)))
            return len(waiting) > 25 and any(waiting[-1]) and len(set(waiting[-25:])) == 1

        wait_for(is_stuck)
        process.send_signal(signal.SIGTERM)
        _, told = process.communicate(timeout=30)
    os.close(reading)
    os.close(writing)
    expected = {"webcam": (2, "its reader has stopped reading"), "predict": (143, "interrupted")}[command]
    assert process.returncode == expected[0] and expected[1] in told
    assert len(told.splitlines()) == {"webcam": 1, "predict": 2}[command]


@pytest.mark.parametrize("delay_s", [0.3, 0.6, 0.9])
def test_ctrl_c_during_the_start_is_silent(delay_s: float) -> None:
    with started(*MIEN, "doctor", stderr=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        try:
            process.wait(delay_s)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
        # Python itself answers with the signal, 130 for a shell, if it struck inside of exec. A doctor that was faster
        # has its own code, 1 where it found something; a crash would have the same, but is not silent.
        assert process.wait(60) in (0, 1, 130, -signal.SIGINT) and process.stderr is not None
        assert process.stderr.read() in ("", "interrupted\n")


def test_ctrl_c_while_a_candidate_starts_is_not_lost(tmp_path: Path) -> None:
    command = [*MIEN, "bench", shipped_model("detector"), "--baseline", "none", "--json", tmp_path / "bench.json"]
    with started(*command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        wait_for(lambda: "python" in " ".join(descendants(process.pid).values()))
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=30)
    assert process.returncode == 130 and stderr == "interrupted\n"
    assert not list(tmp_path.iterdir())


def test_a_signal_that_strikes_in_a_destructor_is_not_lost() -> None:
    class Struck:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt), interrupts.interruptible():
        Struck()
        time.sleep(10)
    assert interrupts.exit_code() == 143


def test_a_postponed_signal_arrives_at_the_end() -> None:
    done = []
    with pytest.raises(KeyboardInterrupt), interrupts.interruptible():
        with interrupts.postponed():
            signal.raise_signal(signal.SIGTERM)
            done.append("the block")
        done.append("too late")
    assert done == ["the block"] and interrupts.exit_code() == 143
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
