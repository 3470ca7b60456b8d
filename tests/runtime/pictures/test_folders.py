"""Folders: every picture is found, whatever its name, and nothing else is passed over in silence."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from mien.runtime.errors import InputError
from mien.runtime.pictures.folders import expand_patterns, list_pictures, natural_order, pictures_in

PNG = cv2.imencode(".png", np.zeros((2, 2, 3), np.uint8))[1].tobytes()


def made(folder: Path, *names: str, data: bytes = PNG) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


def listed(folder: Path, failures: list[str] | None = None) -> list[str]:
    found = list_pictures([folder], [] if failures is None else failures)
    return [path.relative_to(folder).as_posix() for path in found]


def test_pictures_are_found_by_content_and_the_rest_is_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made(tmp_path, "b/x6", "a.JPG", "c.mp4", "b/\udcff.png")
    made(tmp_path, "notes.txt", "b/rows.csv", data=b"words")
    made(tmp_path, "clip.mov", data=b"\0\0\0\x14ftypqt  \0\0\0\0qt  ")
    made(tmp_path, "Thumbs.db", ".DS_Store", "._a.JPG", "@eaDir/a.JPG", "__MACOSX/b/x6")
    made(tmp_path, "broken.jpg", data=b"words")  # it says that it is a picture, and fails when it is read
    with caplog.at_level(logging.WARNING, logger="mien"):
        assert listed(tmp_path) == ["a.JPG", "b/x6", "b/\udcff.png", "broken.jpg", "c.mp4"]
        assert len(pictures_in(tmp_path)) == 5
    (line,) = caplog.messages
    assert line.endswith("skipped 8 files that are not pictures (system file or folder: 5, text: 2, video: 1)")


def test_links_are_followed_and_loops_end(tmp_path: Path) -> None:
    outside, photos = tmp_path / "outside", tmp_path / "photos"
    made(outside, "1.png", "below/2.png")
    made(photos, "0.png", "z/3.png")
    (photos / "link").symlink_to(outside)
    (photos / "again").symlink_to(outside / "below")
    (photos / "z" / "loop").symlink_to(photos)
    (outside / "back").symlink_to(photos)
    (photos / "a-link").symlink_to(photos / "z")
    found = listed(photos)
    assert {os.path.realpath(photos / name) for name in found} == {
        str(p) for p in (photos / "0.png", photos / "z/3.png", outside / "1.png", outside / "below/2.png")
    }
    assert len(found) == 4 and "z/3.png" in found


def test_what_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made(tmp_path, "a.png", "shut/b.png")
    (tmp_path / "gone").symlink_to("nowhere")
    (tmp_path / "round").symlink_to("round")
    real = os.listdir

    def listdir(folder: Path) -> list[str]:
        if Path(folder).name == "shut":
            raise PermissionError(13, "Permission denied")
        return real(folder)

    monkeypatch.setattr(os, "listdir", listdir)
    failures: list[str] = []
    assert listed(tmp_path, failures) == ["a.png"]
    assert set(failures) == {
        f"no file {tmp_path / 'gone'}",
        f"{tmp_path / 'round'} cannot be opened (Too many levels of symbolic links)",
        f"{tmp_path / 'shut'} cannot be read (Permission denied)",
    }
    with pytest.raises(InputError, match=r"no file|cannot be"):
        pictures_in(tmp_path)


def test_a_folder_without_pictures_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    failures: list[str] = []
    assert list_pictures([tmp_path / "empty", tmp_path / "a.png"], failures) == [tmp_path / "a.png"]
    assert failures == [f"{tmp_path / 'empty'} holds no pictures"]
    assert pictures_in(tmp_path / "empty", required=False) == []


def test_natural_order() -> None:
    names = ["a9/2.png", "a10/1.png", "b.png", "9.png", "10.png"]
    assert [str(path) for path in sorted(map(Path, sorted(names)), key=natural_order)] == names


def test_patterns_become_the_files_that_match(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("b.jpg", "a.jpg", "sub/c.jpg", "x[1].jpg"):
        (tmp_path / name).touch()
    here = f"{tmp_path}/"
    assert expand_patterns([f"{here}[ab].jpg"]) == [f"{here}a.jpg", f"{here}b.jpg"]
    assert expand_patterns([f"{here}**/*.jpg"]) == [f"{here}{n}.jpg" for n in ("a", "b", "sub/c", "x[1]")]
    kept = [f"{here}x[1].jpg", f"{here}*.png", "s3://bucket/*.jpg", "none.jpg"]
    assert expand_patterns(kept) == kept
