"""Video files are read back with PyAV: the times, the codec and the size of what was written."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mien.runtime.errors import OutputError
from mien.runtime.live.outputs import OutputFiles
from mien.runtime.output.opencv_encoder import OpenCvEncoder
from mien.runtime.output.video_file import VideoSink
from mien.runtime.values import Faces, Frame

av = pytest.importorskip("av")

SLOW_THEN_FAST = [*range(0, 2000, 200), *range(2000, 3000, 40)]
"""Times in ms of 10 frames at 5 fps and 25 frames at 25 fps."""


def write(path: Path, times_ms: list[int], *, size: tuple[int, int] = (64, 48), fps: float = 25.0) -> None:
    """Write frames that grow lighter from one to the next."""
    sink = VideoSink(path, fps=fps)
    for i, time_ms in enumerate(times_ms):
        pixels = np.full((size[1], size[0], 3), 20 + 6 * i, np.uint8)
        frame = Frame(pixels, timestamp_ns=7_000_000_000 + time_ms * 1_000_000, index=i)
        assert sink.write(frame, Faces.empty(), pixels)
    sink.close()


def shown(path: Path) -> tuple[list[tuple[float, float]], float]:
    """Read the time in s and the level of each frame, and the duration in s."""
    with av.open(str(path)) as container:
        frames = [(f.time, float(f.to_ndarray(format="gray").mean())) for f in container.decode(video=0)]
        assert container.duration is not None
        return frames, container.duration / 1e6


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".webm"])
@pytest.mark.parametrize("times_ms", [SLOW_THEN_FAST, [3000 - t for t in reversed(SLOW_THEN_FAST)], [0, 9000, 9040]])
def test_each_frame_has_its_own_time(tmp_path: Path, suffix: str, times_ms: list[int]) -> None:
    path = tmp_path / f"out{suffix}"
    write(path, times_ms)
    frames, duration_s = shown(path)
    start_ms = times_ms[0]
    assert [time for time, _ in frames] == pytest.approx([(t - start_ms) / 1e3 for t in times_ms], abs=0.002)
    levels = [level for _, level in frames]
    assert levels == sorted(levels) and levels[-1] - levels[0] > 4 * (len(times_ms) - 1)
    last_interval_ms = times_ms[-1] - times_ms[-2]
    assert duration_s == pytest.approx((times_ms[-1] - start_ms + last_interval_ms) / 1e3, abs=0.01)


def test_an_avi_keeps_the_duration_at_its_one_rate(tmp_path: Path) -> None:
    write(tmp_path / "out.avi", SLOW_THEN_FAST, fps=10)
    frames, duration_s = shown(tmp_path / "out.avi")
    assert duration_s == pytest.approx(3.0, abs=0.11)
    levels = [level for _, level in frames]
    assert levels == sorted(levels)


def test_an_mp4_plays_in_a_browser(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    write(path, [0, 40, 80])
    content = path.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")
    with av.open(str(path)) as container:
        context = container.streams.video[0].codec_context
        assert (context.name, context.pix_fmt) == ("h264", "yuv420p")


@pytest.mark.parametrize("suffix", [".mp4", ".webm", ".avi"])
def test_odd_sizes_are_padded_by_one(tmp_path: Path, suffix: str) -> None:
    write(tmp_path / f"out{suffix}", [0, 40], size=(33, 21))
    with av.open(str(tmp_path / f"out{suffix}")) as container:
        frame = next(container.decode(video=0))
    assert (frame.width, frame.height) == (34, 22)
    gray = frame.to_ndarray(format="gray")
    assert np.ptp(gray.astype(int)) <= 6  # of one color, up to the last row and column


def test_a_name_is_only_a_name(tmp_path: Path) -> None:
    for name in ("12:30.mp4", "a%03d.mp4", os.fsdecode(b"caf\xe9.mp4"), "n" * 240 + ".mp4"):
        write(tmp_path / name, [0, 40])
        with av.open(f"file:{tmp_path / name}") as container:
            assert len(list(container.decode(video=0))) == 2


def test_an_unknown_suffix_is_refused_before_the_run(tmp_path: Path) -> None:
    for name in ("out.txt", "out"):
        with pytest.raises(OutputError, match=r"\.mp4, \.mov, \.mkv, \.webm, \.avi"):
            OutputFiles(video=tmp_path / name).check([])


def test_without_pyav_an_mp4_is_said_to_be_part_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("av", "mien.runtime.output.av_encoder"):
        monkeypatch.setitem(sys.modules, name, None)
    with caplog.at_level(logging.WARNING, logger="mien"):
        write(tmp_path / "out.avi", [0, 40])
        assert not caplog.text  # PyAV would not change it
        write(tmp_path / "out.mp4", SLOW_THEN_FAST, fps=25)
    assert "MPEG-4 part 2" in caplog.text and "pip install av" in caplog.text
    monkeypatch.undo()
    assert shown(tmp_path / "out.mp4")[1] == pytest.approx(3.0, abs=0.05)


@pytest.mark.parametrize("fps", [0.001, 1000 / 15, 29.97003, 2232.996, 90_000])
def test_any_rate_fits_into_the_files_of_opencv(tmp_path: Path, fps: float) -> None:
    encoder = OpenCvEncoder(tmp_path / "out.mp4", (64, 48), fps=fps)
    encoder.append(np.zeros((48, 64, 3), np.uint8), 0)
    encoder.close()
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert len(list(container.decode(video=0))) == 1


@pytest.mark.parametrize("with_pyav", [True, False])
@pytest.mark.parametrize("suffix", [".mkv", ".webm", ".avi", ".mp4"])
def test_a_file_that_cannot_be_completed_is_kept_if_it_plays(tmp_path: Path, suffix: str, with_pyav: bool) -> None:
    """In a process of its own, as the limit of a file's size is for good."""
    code = f"""
import resource, signal, sys, numpy as np
if not {with_pyav}:
    sys.modules["av"] = None
from pathlib import Path
from mien.runtime.errors import OutputError
from mien.runtime.output.video_file import VideoSink
from mien.runtime.values import Faces, Frame
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, -1))
noise = np.random.default_rng(0)
sink = VideoSink(Path("out{suffix}"), fps=25)
try:
    for index in range(60):
        pixels = noise.integers(0, 256, (96, 128, 3), np.uint8)
        sink.write(Frame(pixels, index * 40_000_000, index), Faces.empty(), pixels)
except OutputError as error:
    print(error)
try:
    sink.close()
except OutputError as error:
    print(error)
"""
    (tmp_path / f"out{suffix}").write_bytes(b"old")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert f"cannot write out{suffix} (" in done.stdout and "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == [f"out{suffix}"]
    if suffix == ".mp4":
        assert (tmp_path / "out.mp4").read_bytes() == b"old"
        return
    assert "kept up to there" in done.stdout
    with av.open(str(tmp_path / f"out{suffix}")) as container:
        assert 1 <= len(list(container.decode(video=0))) < 60


def test_opencv_is_not_given_a_name_that_ends_the_process(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    with pytest.raises(OutputError, match="not UTF-8"):
        write(folder / "out.avi", [0])
