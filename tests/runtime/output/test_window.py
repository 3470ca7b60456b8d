"""The window: what it shows, and what its keys do; OpenCV's own is replaced."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from mien.cli import app
from mien.runtime.capture.demo_camera import find_photo
from mien.runtime.output import window
from mien.runtime.output.window import View, WindowSink
from mien.runtime.pictures.images import read_image
from mien.runtime.values import Faces, Frame, Image

PICTURE = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)


class Screen:
    """Stands for OpenCV's windows: keeps what is shown, and presses `keys`, one at each look; "" is none."""

    def __init__(self) -> None:
        self.keys: Iterator[str] = iter(())
        self.shown: list[Image] = []
        self.visible = False
        self.looks = 0
        self.on_look: Callable[[], object] = lambda: None

    def imshow(self, title: str, picture: Image) -> None:
        self.visible = True
        self.shown.append(picture.copy())

    def waitKey(self, wait_ms: int) -> int:  # noqa: N802 - OpenCV's name
        self.looks += 1
        assert self.looks < 100, "it looks for ever"
        self.on_look()
        key = next(self.keys, "")
        return ord(key) if key else -1

    def getWindowProperty(self, title: str, property_id: int) -> float:  # noqa: N802 - OpenCV's name
        return float(self.visible)

    def destroyAllWindows(self) -> None:  # noqa: N802 - OpenCV's name
        self.visible = False


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Screen:
    found = Screen()
    for name in ("imshow", "waitKey", "getWindowProperty", "destroyAllWindows"):
        monkeypatch.setattr(cv2, name, getattr(found, name))
    for name in ("has_display", "has_windows"):
        monkeypatch.setattr(window, name, lambda: True)
    return found


def write(sink: WindowSink, screen: Screen, keys: str | list[str] = "") -> bool:
    screen.keys = iter(keys)
    return sink.write(Frame(PICTURE, timestamp_ns=0, index=3), Faces.empty(), PICTURE)


def test_keys_change_the_view_and_quit(screen: Screen) -> None:
    view = View()
    sink = WindowSink(view)
    assert write(sink, screen) and (screen.shown[0] == PICTURE).all()
    assert write(sink, screen, "h") and (view.hud, view.contours) == (False, True)
    assert write(sink, screen, "m") and (view.hud, view.contours) == (False, False)
    assert write(sink, screen, "h") and write(sink, screen, "m") and (view.hud, view.contours) == (True, True)
    assert not write(sink, screen, "q")
    sink.close()
    assert not screen.visible


def test_a_saved_picture_replaces_no_other(screen: Screen, tmp_path: Path) -> None:
    (tmp_path / "mien-000003.png").write_text("somebody's")
    sink = WindowSink(View(), snapshots=tmp_path)
    assert write(sink, screen, "s") and write(sink, screen, " s")
    assert (tmp_path / "mien-000003.png").read_text() == "somebody's"
    saved = [read_image(path) for path in tmp_path.glob("mien-000003-*.png")]
    assert len(saved) == 2 and all((picture == PICTURE).all() for picture in saved)


def test_a_picture_that_cannot_be_saved_does_not_end_the_run(
    screen: Screen, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sink = WindowSink(View(), snapshots=tmp_path / "unplugged")
    assert write(sink, screen, "s") and write(sink, screen)
    assert "mien-000003.png (No such file or directory)" in caplog.text


def test_a_pause_lasts_until_a_key_the_end_or_a_signal(screen: Screen) -> None:
    view = View()
    sink = WindowSink(view)
    assert write(sink, screen, [" ", "", "h", "", " ", "q"]) and view.hud  # only three keys end a pause
    assert next(screen.keys) == "q"
    assert not write(sink, screen, [" ", "", "q"])
    screen.looks, screen.on_look = 0, lambda: screen.looks == 4 and sink.close()  # by a click
    assert not write(sink, screen, " ") and screen.looks == 4
    assert not write(sink, screen) and len(screen.shown) == 3  # it is not opened again
    screen.looks, screen.on_look = 0, lambda: screen.looks == 4 and setattr(view, "ended", True)
    assert not write(WindowSink(view), screen, " ") and screen.looks == 4


def test_webcam_shows_a_window_whose_keys_work(screen: Screen, tmp_path: Path) -> None:
    photo = cv2.resize(read_image(find_photo()[0]), (256, 300), interpolation=cv2.INTER_AREA)
    for i in range(19):
        cv2.imwrite(str(tmp_path / f"{i}.png"), photo)
    settling = [""] * 10  # the landmarks, which follow those of the frame before
    screen.keys = iter([*settling, "", "", "h", "m", "", "q"])
    done = CliRunner().invoke(app, ["webcam", str(tmp_path), "--json", str(tmp_path / "rows.jsonl")])
    assert done.exit_code == 0, done.output
    assert len(screen.shown) == len((tmp_path / "rows.jsonl").read_text().splitlines()) == 16

    def changed(a: Image, b: Image) -> np.ndarray:
        return np.abs(a.astype(int) - b).max(axis=2) > 60

    corner, (face,) = np.s_[:15, :60], json.loads((tmp_path / "rows.jsonl").read_text().splitlines()[0])["faces"]
    shown = screen.shown[len(settling) :]
    assert changed(shown[2], photo)[corner].any() and not changed(shown[3], photo)[corner].any()
    x0, y0, x1, y1 = map(int, face["box"])
    steady, bare = (changed(shown[i], shown[i + 1])[y0:y1, x0:x1].sum() for i in (2, 3))
    assert bare > 100 + 5 * steady, (bare, steady)
