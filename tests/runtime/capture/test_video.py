"""Video files as a player shows them: upright, with square pixels, each frame at its time, whole or said to be cut."""

from __future__ import annotations

import gc
import os
import sys
import threading
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mien.runtime.capture.frame_shape import square_width, upright
from mien.runtime.capture.open_capture import open_capture
from mien.runtime.errors import InputError
from mien.runtime.values import Frame, Image

av = pytest.importorskip("av")

QUARTERS = np.array([[[200, 20, 20], [20, 200, 20]], [[20, 20, 200], [200, 200, 200]]], np.uint8)
"""Blue and green above red and white."""


def write(
    path: Path,
    times_ms: Sequence[int] = range(0, 1000, 40),
    *,
    codec: str = "libx264",
    size: tuple[int, int] = (64, 48),
    aspect: Fraction | None = None,
    noisy: bool = False,
    **muxer: str,
) -> Path:
    """Write a video of `QUARTERS` with PyAV."""
    noise = np.random.default_rng(0)
    picture = QUARTERS.repeat(size[1] // 2, 0).repeat(size[0] // 2, 1)
    with av.open(f"file:{path}", "w", options=muxer) as container:
        stream: Any = container.add_stream(codec, rate=25)
        stream.width, stream.height = size
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000 if path.suffix != ".avi" else 25)
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        for time_ms in times_ms:
            pixels = noise.integers(0, 256, picture.shape, dtype=np.uint8) if noisy else picture
            frame = av.VideoFrame.from_ndarray(pixels, format="bgr24")
            frame.pts = time_ms if path.suffix != ".avi" else time_ms // 40
            frame.time_base = stream.codec_context.time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def read(path: Path) -> tuple[list[Frame], str | None]:
    with open_capture(path) as capture:
        return list(capture), capture.damage


def corners(pixels: Image) -> list[str]:
    """Name the colors of the four quarters, row by row."""
    height, width = pixels.shape[:2]
    names = {(True, False, False): "blue", (False, True, False): "green", (False, False, True): "red"}
    points = [pixels[height * y // 4, width * x // 4] for y in (1, 3) for x in (1, 3)]
    return [names.get(tuple(bool(v > 120) for v in point), "white") for point in points]


@pytest.mark.parametrize(
    "times_ms", [range(0, 1000, 40), [*range(0, 2000, 200), *range(2000, 3000, 40)], [0, 7000, 7040]]
)
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.webm", "a.mov"])
def test_frames_have_their_own_times(tmp_path: Path, name: str, times_ms: Sequence[int]) -> None:
    frames, damage = read(write(tmp_path / name, times_ms, codec="libvpx" if name == "a.webm" else "libx264"))
    assert [f.timestamp_ns / 1e6 for f in frames] == pytest.approx(list(times_ms), abs=1)
    assert damage is None


def test_reordered_pictures_in_an_avi_have_their_times(tmp_path: Path) -> None:
    frames, damage = read(write(tmp_path / "a.avi", noisy=True))
    assert [round(f.timestamp_ns / 1e6) for f in frames] == list(range(0, 1000, 40))
    assert damage is None


def test_a_video_that_starts_late_or_was_trimmed_is_whole(tmp_path: Path) -> None:
    for name in ("a.mp4", "a.mkv", "a.ts", "a.flv"):
        frames, damage = read(write(tmp_path / name, range(400, 1400, 40)))
        assert [round(f.timestamp_ns / 1e6) for f in frames] == list(range(0, 1000, 40)), name
        assert damage is None


def test_a_wrong_number_of_frames_in_the_header_is_no_damage(tmp_path: Path) -> None:
    path = write(tmp_path / "a.avi", codec="mjpeg")
    content = bytearray(path.read_bytes())
    at = content.index(b"avih") + 8 + 16
    assert int.from_bytes(content[at : at + 4], "little") == 25
    content[at : at + 4] = (99).to_bytes(4, "little")
    length = content.index(b"strh") + 8 + 32
    content[length : length + 4] = (99).to_bytes(4, "little")
    path.write_bytes(content)
    frames, damage = read(path)
    assert (len(frames), damage) == (25, None)


@pytest.mark.parametrize("share", [0.35, 0.6, 0.97])
@pytest.mark.parametrize(
    ("name", "codec", "muxer"),
    [
        ("a.mp4", "libx264", {"movflags": "+faststart"}),
        ("b.mp4", "mpeg4", {"movflags": "+faststart"}),
        ("a.mkv", "libx264", {}),
        ("a.webm", "libvpx", {}),
        ("live.webm", "libvpx", {"live": "1"}),
        ("a.avi", "mjpeg", {}),
        ("a.flv", "libx264", {}),
    ],
)
def test_a_cut_file_is_told_and_its_frames_are_kept(
    tmp_path: Path, name: str, codec: str, muxer: dict[str, str], share: float
) -> None:
    path = write(tmp_path / name, codec=codec, noisy=True, **muxer)
    whole, damage = read(path)
    assert (len(whole), damage) == (25, None)
    content = path.read_bytes()
    path.write_bytes(content[: round(len(content) * share)])
    cut, damage = read(path)
    assert 0.3 * share * 25 <= len(cut) <= 25
    assert damage is not None and "damaged, or its end is missing" in damage and str(path) in damage


def test_joined_transport_streams_are_whole_and_a_lost_packet_is_told(tmp_path: Path) -> None:
    content = write(tmp_path / "a.ts", noisy=True).read_bytes()
    joined, holed = tmp_path / "joined.ts", tmp_path / "holed.ts"
    joined.write_bytes(content + content)
    middle = len(content) // 188 // 2 * 188
    holed.write_bytes(content[:middle] + content[middle + 188 :])
    frames, damage = read(joined)
    assert len(frames) == 50 and damage is None
    assert read(holed)[1] is not None


def test_a_codec_without_a_decoder_is_said(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4")
    path.write_bytes(path.read_bytes().replace(b"avc1", b"zzzz"))
    with pytest.raises(InputError, match="no decoder"):
        read(path)


def test_a_file_without_its_index_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", noisy=True)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(InputError, match="its end is missing"):
        open_capture(path)


@pytest.mark.parametrize(
    ("axes", "shown"),
    [
        ((1, 0, 0, 1), ["blue", "green", "red", "white"]),
        ((-1, 0, 0, 1), ["green", "blue", "white", "red"]),
        ((1, 0, 0, -1), ["red", "white", "blue", "green"]),
        ((-1, 0, 0, -1), ["white", "red", "green", "blue"]),
        ((0, 1, -1, 0), ["red", "blue", "white", "green"]),  # a quarter turn clockwise
        ((0, -1, 1, 0), ["green", "white", "blue", "red"]),
        ((0, 1, 1, 0), ["blue", "red", "green", "white"]),  # transposed
        ((0, -1, -1, 0), ["white", "green", "red", "blue"]),
    ],
)
def test_the_display_matrix_turns_and_mirrors(
    tmp_path: Path, axes: tuple[int, int, int, int], shown: list[str]
) -> None:
    path = write(tmp_path / "a.mp4", size=(64, 48))
    content = bytearray(path.read_bytes())
    at = content.index(b"tkhd") + 4 + 40
    a, b, c, d = (n * 65536 for n in axes)
    matrix = np.array([a, b, 0, c, d, 0, 0, 0, 1 << 30], np.int32)
    content[at : at + 36] = matrix.astype(">i4").tobytes()
    path.write_bytes(content)
    frames, _ = read(path)
    assert frames[0].pixels.shape[:2] == ((48, 64) if axes[0] else (64, 48))
    assert corners(frames[0].pixels) == shown
    pixels = QUARTERS.repeat(24, 0).repeat(32, 1)
    assert corners(upright(pixels, matrix)) == shown


def test_pixels_become_square(tmp_path: Path) -> None:
    frames, _ = read(write(tmp_path / "a.mp4", size=(48, 54), aspect=Fraction(2)))
    assert {f.pixels.shape for f in frames} == {(54, 96, 3)}
    assert corners(frames[0].pixels) == ["blue", "green", "red", "white"]
    assert [square_width(720, a) for a in (None, Fraction(16, 15), Fraction(3, 4), Fraction(99), Fraction(0))] == [
        720,
        768,
        540,
        720,
        720,
    ]
    assert square_width(321, Fraction(2896, 2889)) == 321  # a rounding error of one pixel


@pytest.mark.parametrize("name", ["12:30.mp4", "a%03d.mp4", os.fsdecode(b"caf\xe9.mp4"), "n" * 240 + ".mp4", "film"])
def test_a_name_is_only_a_name(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a.mp4").rename(tmp_path / name)
    assert len(read(tmp_path / name)[0]) == 25
    monkeypatch.chdir(tmp_path)
    assert len(read(Path(name))[0]) == 25


def test_a_text_is_no_video(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello\n" * 200)
    with pytest.raises(InputError, match="is neither a picture nor a video"):
        open_capture(tmp_path / "notes.txt")


@pytest.fixture
def without_pyav(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    for name in ("av", "mien.runtime.capture.av_video"):
        monkeypatch.setitem(sys.modules, name, None)
    return monkeypatch.undo


def test_without_pyav_opencv_reads_and_a_short_file_is_a_warning(
    tmp_path: Path, without_pyav: Callable[[], None], caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path / "a.avi", codec="mjpeg", aspect=None, noisy=True)
    assert len(read(path)[0]) == 25
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    frames, damage = read(path)
    assert 6 < len(frames) < 20 and damage is None
    assert "of the 25 frames in its header" in caplog.text
    square, _ = read(write(tmp_path / "b.mp4", size=(48, 54), aspect=Fraction(2)))
    assert square[0].pixels.shape == (54, 96, 3)
    for name in (b"caf\xe9.mp4", b"12:30.mp4"):
        assert len(read(write(tmp_path / os.fsdecode(name)))[0]) == 25


def test_decoded_pictures_do_not_wait_for_the_garbage_collector(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", range(0, 4000, 10))
    gc.collect()
    gc.disable()
    try:
        with open_capture(path) as capture:
            alive = [
                sum(type(o) is av.VideoFrame for o in gc.get_objects())
                for number, _ in enumerate(capture)
                if number in (0, 299)
            ]
    finally:
        gc.enable()
    assert alive[1] - alive[0] < 10


def test_errors_are_collected_by_threads_at_once_and_the_level_is_restored() -> None:
    from mien.runtime.capture.av_log import container_errors

    level = av.logging.get_level()

    def collect() -> None:
        with container_errors():
            both_collect.wait(10)
            this_one_is_left.wait(10)

    both_collect, this_one_is_left = threading.Barrier(2), threading.Event()
    other = threading.Thread(target=collect)
    other.start()
    with container_errors() as first:
        both_collect.wait(10)
        av.logging.log(av.logging.ERROR, "demuxer", "File ended prematurely")
    with container_errors() as second:
        this_one_is_left.set()
        other.join(10)
        av.logging.log(av.logging.ERROR, "demuxer", "File ended prematurely")
    assert [len(first), len(second)] == [1, 1] and av.logging.get_level() == level
