from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from mien.runtime.errors import InputError, OutputError
from mien.runtime.output_paths import check_outputs


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"a video")
    return path


def spellings(path: Path) -> list[Path]:
    """The same file: as it is, relative, by a detour, by a symbolic link and by a hard link."""
    link, hard = path.with_name("link.mp4"), path.with_name("hard.mp4")
    link.symlink_to(path.name)
    os.link(path, hard)
    return [path, Path(os.path.relpath(path)), path.parent / "x" / ".." / path.name, link, hard]


def test_no_spelling_of_an_input_is_an_output(clip: Path) -> None:
    (clip.parent / "x").mkdir()
    for spelled in spellings(clip):
        with pytest.raises(InputError, match=r"--output .* would overwrite the input"):
            check_outputs({"--output": spelled}, [None, clip])
    assert clip.read_bytes() == b"a video"


def test_an_input_may_be_a_pipeline_too_long_for_a_name(tmp_path: Path) -> None:
    check_outputs({"--json": tmp_path / "rows.json"}, [Path("gst:videotestsrc ! identity name=" + "x" * 300)])


def test_no_two_outputs_are_one_file(clip: Path) -> None:
    (clip.parent / "x").mkdir()
    for spelled in spellings(clip)[1:]:
        with pytest.raises(InputError, match=r"--json and --csv name one file|--csv and --json name one file"):
            check_outputs({"--csv": clip, "--stats": None, "--json": spelled})
    new = clip.parent / "new.json"
    with pytest.raises(InputError, match="name one file"):
        check_outputs({"--csv": new, "--json": clip.parent / "x" / ".." / "new.json"})
    check_outputs({"--csv": new, "--json": clip.parent / "other.json"}, [clip])


def test_pictures_and_labels_of_an_input_folder_are_inputs(tmp_path: Path) -> None:
    picture = tmp_path / "no_suffix"
    picture.write_bytes(cv2.imencode(".png", np.zeros((4, 4, 3), np.uint8))[1].tobytes())
    (tmp_path / "labels.csv").write_text("file\n")
    (tmp_path / "rows.json").write_text("{}\n")
    for name in ("no_suffix", "labels.csv"):
        with pytest.raises(InputError, match="would overwrite the input"):
            check_outputs({"--json": tmp_path / name}, [tmp_path])
    check_outputs({"--json": tmp_path / "rows.json", "--csv": tmp_path / "new.csv"}, [tmp_path])


@pytest.mark.parametrize("name", ["x" * 300, "a\0b", "loop"])
def test_a_name_that_no_file_can_have_is_an_error(tmp_path: Path, name: str) -> None:
    (tmp_path / "loop").symlink_to("loop")
    for inputs in ([], [tmp_path], [tmp_path / name]):
        with pytest.raises(OutputError, match="cannot write"):
            check_outputs({"--json": tmp_path / name}, inputs)
    assert (tmp_path / "loop").is_symlink()


def test_a_place_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="is a folder"):
        check_outputs({"--json": tmp_path})
    with pytest.raises(OutputError, match="no folder"):
        check_outputs({"--json": tmp_path / "none" / "a.json"})


def test_the_folder_of_a_file_to_replace_must_be_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "rows.json"
    path.write_bytes(b"first")
    monkeypatch.setattr(os, "access", lambda place, _: Path(place) != tmp_path)  # root may write anywhere
    with pytest.raises(OutputError, match="no permission"):
        check_outputs({"--json": path})
    check_outputs({"--json": Path(os.devnull)})


def test_a_read_only_file_system_is_told_from_a_lack_of_rights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    for flags, expected in ((os.ST_NOSUID, r"rows\.json$"), (os.ST_NOSUID | os.ST_RDONLY, "file system is read-only$")):
        monkeypatch.setattr(os, "statvfs", lambda _, flags=flags: SimpleNamespace(f_flag=flags))
        with pytest.raises(OutputError, match=f"no permission to write .*{expected}"):
            check_outputs({"--json": tmp_path / "rows.json"})


@pytest.mark.parametrize(
    "arguments",
    [
        ["webcam", "{clip}", "--no-show", "--output", "{clip}"],
        ["webcam", "{clip}", "--no-show", "--output", "{link}"],
        ["webcam", "{clip}", "--no-show", "--json", "{clip}"],
        ["webcam", "{clip}", "--no-show", "--csv", "{clip}"],
        ["webcam", "{clip}", "--no-show", "--stats", "{link}"],
        ["predict", "{clip}", "--json", "{clip}"],
        ["predict", "{folder}", "--json", "{picture}"],
        ["predict", "{clip}", "--view3d", "{link}"],
        ["bench", "{clip}", "--json", "{clip}"],
        ["bench", "{clip}", "--html", "{link}"],
        ["bench", "{clip}", "--csv", "{clip}"],
    ],
)
def test_no_command_overwrites_its_input(clip: Path, arguments: list[str]) -> None:
    from typer.testing import CliRunner

    from mien.cli import app

    link = clip.with_name("link.mp4")
    link.symlink_to(clip)
    (clip.parent / "pictures").mkdir()
    picture = clip.parent / "pictures" / "a.png"
    cv2.imwrite(str(picture), np.zeros((8, 8, 3), np.uint8))
    before = clip.read_bytes(), picture.read_bytes()
    names = {"clip": clip, "link": link, "picture": picture, "folder": picture.parent}
    done = CliRunner().invoke(app, [argument.format(**names) for argument in arguments])
    assert done.exit_code == 2, done.output
    assert "would overwrite the input" in " ".join(done.stderr.split())
    assert (clip.read_bytes(), picture.read_bytes()) == before
