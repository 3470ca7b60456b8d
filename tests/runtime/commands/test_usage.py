"""Misspelt options, commands and paths: one line that says what was meant."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from typer.main import get_command
from typer.testing import CliRunner

import mien
from mien.cli import app
from mien.runtime.commands.usage import UsageError
from mien.runtime.models.shipped import shipped_model
from mien.runtime.near_names import describe_missing
from mien.tests.missing_library import skip_without_library

ROOT = Path(mien.__file__).parent
PROGRAM = get_command(app)
DETECTOR = str(shipped_model("detector"))


def error_of(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments))
    skip_without_library(result)
    assert result.exit_code == 2 and result.stderr.startswith("error: "), result.output
    (line,) = result.stderr.splitlines()
    return line


@pytest.mark.parametrize(
    ("arguments", "fix"),
    [
        (["train", "classify", "--lr", "3"], "did you mean --learning-rate?"),
        (["train", "classify", "--bs", "3"], "did you mean --batch-size?"),
        (["train", "landmarks", "--gpu"], "did you mean --device cuda?"),
        (["train", "landmarks", "--epoch", "3"], "did you mean --epochs?"),
        (["bench", "--batch-size", "3"], "did you mean --batch?"),
        (["predict", "x", "--conf=0.5"], "did you mean --min-score?"),
        (["predict", "x", "--device", "0"], "did you mean --provider?"),
        (["predict", "--input", "x"], "give INPUT without --input"),
        (["webcam", "--fp16"], "did you mean --precision fp16?"),
        (["webcam", "--headless"], "did you mean --no-show?"),
        (["webcam", "a.mp4", "b.mp4"], "for several files: mien predict FILE… --draw FOLDER"),
        (["predict", "x", "--lr", "3"], "no option --lr; see mien predict --help"),
        (["predict", "x", "--json"], "option '--json' needs a value"),
        (["predict", "-"], "find … -print0 | xargs -0 mien predict"),
        (["predict"], "INPUT is missing; see mien predict --help"),
        (["export", "x.pt"], "--output is missing; see mien export --help"),
        (["prdict"], "no command 'prdict'; did you mean mien predict?"),
        (["train", "landmark"], "did you mean mien train landmarks?"),
        (["--verison"], "did you mean --version?"),
        (["predict", "x", "--provider", "cda"], "'cda' is not one of 'auto', 'cpu'"),
        (["predict", "x", "--provider", "cda"], "did you mean cuda?"),
        (["predict", "x", "--provider", "gpu"], "did you mean cuda?"),
        (["webcam", "--on", "face"], "did you mean faces?"),
        (["export", "x.pt", "-o", "x.onnx", "--precision", "half"], "did you mean fp16?"),
        (["bench", "--provider", "gpu"], "found 'gpu'; did you mean cuda?"),
    ],
)
def test_a_wrong_option_or_command_names_the_right_one(arguments: list[str], fix: str) -> None:
    assert fix in error_of(*arguments)


@pytest.mark.parametrize("command", ["landmarks", "age-gender", "detector", "classify"])
@pytest.mark.parametrize("group", ["train", "evaluate"])
def test_a_folder_of_data_that_does_not_exist_is_said_before_any_work(
    group: str, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "labels.csv").touch()
    monkeypatch.chdir(tmp_path)
    model = ["--model", "x.onnx"] if group == "evaluate" and command == "classify" else []
    assert "no folder picture; did you mean pictures?" in error_of(group, command, *model, "--data", "picture")
    assert "labels.csv is a file, expected a folder" in error_of(group, command, *model, "--data", "labels.csv")


@pytest.mark.parametrize(
    "arguments",
    [
        ["info", "{}"],
        ["engine", "{}"],
        ["verify", "{}"],
        ["export", "{}", "-o", "x.onnx"],
        ["bench", "{}"],
        ["bench", "compare", "{}", "{}"],
        ["bench", "--pipeline", "{}"],
        ["bench", "--inputs", "{}"],
        ["webcam", "--no-show", "{}"],
        ["webcam", "demo", "--no-show", "--model", "{}"],
        ["webcam", "demo", "--no-show", "--bundle", "{}"],
        ["predict", "x", "--detector", "{}"],
        ["train", "landmarks", "--init-from", "{}"],
    ],
)
def test_a_misspelt_file_names_its_neighbour(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "faces.bin").touch()
    monkeypatch.chdir(tmp_path)
    assert "did you mean faces.bin?" in error_of(*(a.format("faecs.bin") for a in arguments))
    if arguments[0] != "webcam" or "demo" in arguments:  # which films the pictures of a folder
        assert ". is a folder, expected a " in error_of(*(a.format(".") for a in arguments))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
@pytest.mark.parametrize("name", ["pipe", "x" * 300, "loop"])
@pytest.mark.parametrize(
    "command",
    [
        "info PATH",
        "verify PATH",
        "export PATH -o out.onnx",
        "bench PATH",
        "bench compare PATH PATH",
        "webcam PATH --no-show",
        "webcam --config PATH",
        "evaluate age-gender --data PATH",
        "train classify --data PATH",
    ],
)
def test_what_is_no_file_is_said_at_once(
    command: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")  # whoever opens it waits for a writer
    Path("loop").symlink_to("loop")
    assert name in error_of(*command.replace("PATH", name).split())


def test_missing_paths_are_told_from_their_folders(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    assert describe_missing(tmp_path / "photo/a.jpg") == (
        f"no file {tmp_path}/photo/a.jpg: no folder {tmp_path}/photo; did you mean {tmp_path}/photos?"
    )
    assert describe_missing(tmp_path / "xyz") == f"no file {tmp_path}/xyz"
    assert describe_missing(Path("n" * 300)) == f"no file {'n' * 300}"
    assert describe_missing(Path("a\0b")) == "no file a\0b"


def leaves(command: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """All commands, with the words by which they are called."""
    yield words, command
    for name, below in getattr(command, "commands", {}).items():
        yield from leaves(below, (*words, name))


@pytest.fixture
def any_file_exists(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let options name files, folders and runs that are not there."""
    monkeypatch.setattr("mien.runtime.commands.input_paths.paths_of", lambda given: [])
    monkeypatch.setattr("mien.export.commands.resume.saved_options", lambda run, command: {"data": "folder"})


def parse(line: str) -> int:
    """Read all commands of a line, with types, choices and what is required, without running them; return how many."""
    parts = [part.split(" | ")[0] for part in re.sub(r"[\[\]]", "", line).split(" && ")]
    for part in parts:
        name, *words = shlex.split(part, comments=True)
        assert name == "mien"
        command: Any = PROGRAM
        while hasattr(command, "commands"):
            name = words.pop(0) if words and words[0] in command.commands else "run"
            command = command.commands[name]
        command.make_context(name, words)
    return len(parts)


def test_every_example_of_the_help_can_be_typed(any_file_exists: None) -> None:
    examples = [example for _, command in leaves(PROGRAM) for example in (command.epilog or "").split("\n\n")]
    examples = [example.removeprefix("Start with: [bold]").removesuffix("[/bold]") for example in examples if example]
    assert sum(map(parse, examples)) > 20


@pytest.mark.parametrize(
    "line",
    ["mien webcam demo --precision half", "mien export a.pt", "mien info a.onnx && mien predict", "mien prdict a"],
)
def test_what_cannot_be_typed_is_noticed(line: str) -> None:
    with pytest.raises((UsageError, KeyError)):
        parse(line)


def test_every_command_of_the_documentation_can_be_typed(any_file_exists: None) -> None:
    commands = 0
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        blocks = re.findall(r"^```\n.*?^```|^    .*?$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
        text = "\n".join(blocks).replace("\\\n", " ").replace(" TASK ", " landmarks ")
        commands += sum(map(parse, re.findall(r"^ *(mien [a-z].*)", text, re.MULTILINE)))
    assert commands > 80


def test_the_help_is_grouped_and_fits_a_narrow_terminal() -> None:
    told = CliRunner().invoke(app, ["webcam", "--help"]).output
    for heading in ("Models", "Which faces are reported", "Drawing", "Saved options"):
        assert f"─ {heading} ─" in told
    assert told.index("─ Options ─") < told.index("─ Models ─") < told.index("─ Saved options ─")
    assert "ort-tensorrt" in told  # in one word
    assert all(len(line) <= 80 for line in told.splitlines())


def test_models_of_a_bundle_that_do_not_exist_are_said_before_pytorch_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)  # importing it raises
    for option in ("--model", "--detector", "--age-gender"):
        assert "no file nosuch.pt" in error_of("bundle", "-o", str(tmp_path / "b.mien"), option, "nosuch.pt")


@pytest.mark.parametrize(
    ("command", "option"),
    [*((name, "--threads") for name in ("webcam", "predict", "verify", "evaluate")), ("predict", "--line-width")],
)
def test_a_number_that_would_block_or_crash_a_library_is_refused(command: str, option: str) -> None:
    path = ["landmarks", "--data", "."] if command == "evaluate" else ["x.png"]
    assert f"invalid value for '{option}'" in error_of(command, *path, option, "99999")


def test_a_file_in_the_place_of_a_folder_is_told(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((8, 8, 3), np.uint8))
    told = error_of("predict", str(tmp_path / "a.png"), "--draw", str(tmp_path / "a.png"))
    assert "a.png is a file, expected a folder" in told


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["evaluate", "classify", "--data", ".", "--model", "notes.onnx"], "can load: it holds text"),
        (["bundle", "-o", "b.mien", "--model", "notes.onnx"], "can load: it holds text"),
        (["bundle", "-o", "b.mien", "--model", DETECTOR], "expected a landmark model, found a detector"),
        (["bundle", "-o", "b.mien", "--age-gender", DETECTOR], "expected an age and gender model, found a detector"),
        (["evaluate", "landmarks", "--data", ".", "--model", DETECTOR], "expected a landmark model, found a detector"),
        (["bench", DETECTOR, "--inputs", "arrays.npz"], "--inputs is for foreign models; those of mien take pictures"),
        (["predict", "x.png", "--min-score", "50"], "expected a minimum score above 0 and at most 1, found 50"),
    ],
)
def test_a_file_for_something_else_is_told_in_words(
    arguments: list[str], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "notes.onnx").write_text("some notes\n")
    (tmp_path / "arrays.npz").touch()
    monkeypatch.chdir(tmp_path)
    assert told in error_of(*arguments)
    assert not (tmp_path / "b.mien").exists()
