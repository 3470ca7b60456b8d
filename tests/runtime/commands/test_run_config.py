"""`--save-config` and `--config`: a run is repeated from a file, and the command line overrides it."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from mien.cli import app
from mien.tests.missing_library import skip_without_library

EVERY = [
    ["predict"],
    ["webcam"],
    ["export"],
    ["bench", "run"],
    *(["train", task] for task in ("landmarks", "age-gender", "detector", "classify")),
    *(["evaluate", task] for task in ("landmarks", "age-gender", "detector", "classify")),
]


def mien(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, list(arguments))
    skip_without_library(result)
    assert result.exit_code == code, result.output
    return result.stdout if code == 0 else result.stderr


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    cv2.imwrite("a.png", np.full((64, 64, 3), 90, np.uint8))
    return tmp_path


def test_a_run_is_repeated_from_its_options(here: Path) -> None:
    mien("predict", "a.png", "--json", "a.jsonl", "--no-attributes", "--max-side", "96", "--save-config", "run.json")
    saved = json.loads((here / "run.json").read_text())
    assert saved["json"] == "a.jsonl" and saved["attributes"] is False and saved["max-side"] == 96
    assert saved["provider"] == "auto"  # a default, which another version may change
    rows = (here / "a.jsonl").read_bytes()
    (here / "a.jsonl").unlink()
    mien("predict", "--config", "run.json", "--save-config", "again.json")
    assert (here / "a.jsonl").read_bytes() == rows
    assert json.loads((here / "again.json").read_text()) == saved


def test_the_command_line_overrides_the_file_which_overrides_defaults(here: Path) -> None:
    (here / "run.json").write_text('{"max-side": 96, "attributes": false}')
    mien("predict", "a.png", "--attributes", "--config", "run.json", "--json", "x", "--save-config", "now.json")
    now = json.loads((here / "now.json").read_text())
    assert now["max-side"] == 96 and now["attributes"] is True and now["provider"] == "auto"


def test_a_training_keeps_its_options_but_no_token_is_written(class_folder: Path, here: Path) -> None:
    mien("train", "classify", "--data", str(class_folder), "--epochs", "3", "--summary", "--save-config", "t.json")
    assert json.loads((here / "t.json").read_text())["epochs"] == 3
    (here / "t.json").write_text('{"backbone": "reslayer", "summary": true, "json": true}')
    assert json.loads(mien("train", "classify", "--config", "t.json"))["parameters"] > 0
    mien("webcam", "a.png", "--no-show", "--token", "a-secret-of-many-letters", "--save-config", "w.json")
    assert "secret" not in (here / "w.json").read_text()
    mien("webcam", "rtsp://me:pa55word@127.0.0.1:9/x", "--no-show", "--save-config", "u.json", code=2)
    assert "***@127.0.0.1:9/x" in (here / "u.json").read_text()


def test_the_source_that_is_used_is_saved(here: Path) -> None:
    for given in (["a.png", "--source", "b.png"], ["--source", "a.png"], ["a.png"]):
        mien("webcam", *given, "--no-show", "--json", "rows", "--save-config", "w.json")
        assert json.loads((here / "w.json").read_text())["source"] == "a.png"


@pytest.mark.parametrize("command", EVERY, ids=" ".join)
def test_every_command_refuses_an_unknown_option_of_a_file(command: list[str], here: Path) -> None:
    (here / "run.json").write_text('{"confg-x": 1}')
    assert "has no option 'confg-x'; see mien" in mien(*command, "--config", "run.json", code=2)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "run.json is not JSON"),
        ("[1]", "run.json is not a JSON object"),
        ('{"max-side": "wide"}', "'--max-side'"),
        ('{"provider": "cda"}', "'cda' is not one of"),
        ('{"max_side": 96}', "mien predict has no option 'max_side'; did you mean max-side?"),
    ],
)
def test_a_file_that_does_not_fit_is_one_line(content: str, message: str, here: Path) -> None:
    (here / "run.json").write_text(content)
    told = mien("predict", "a.png", "--config", "run.json", code=2)
    assert message in told and len(told.splitlines()) == 1
    assert "did you mean run.json?" in mien("predict", "a.png", "--config", "rum.json", code=2)


@pytest.mark.parametrize("path", ["a.png", "./a.png", "link.png", "folder/b.png", "rows.json"])
def test_no_file_of_another_option_is_written(here: Path, path: str) -> None:
    (here / "link.png").symlink_to("a.png")
    (here / "folder").mkdir()
    picture = (here / "a.png").read_bytes()
    (here / "folder/b.png").write_bytes(picture)
    error = mien("predict", "a.png", "folder", "--json", "rows.json", "--save-config", path, code=2)
    assert f"--save-config {Path(path)} " in error and "choose another name" in error
    assert (here / "a.png").read_bytes() == (here / "folder/b.png").read_bytes() == picture
    assert not (here / "rows.json").exists()
