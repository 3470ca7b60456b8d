"""`mien evaluate --report`: a page in a folder of its own, which is never replaced unless it is named."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from mien.bench.commands.evaluate import print_tables
from mien.cli import app
from mien.runtime.models.shipped import shipped_model
from mien.runtime.models.spec import Precision


def evaluate(*words: object) -> Result:
    return CliRunner().invoke(app, ["evaluate", *map(str, words)])


def one_line(result: Result) -> str:
    return " ".join(result.output.split())


def test_a_report_of_ages(age_gender_folder: Path, tmp_path: Path) -> None:
    result = evaluate("age-gender", "--data", age_gender_folder, "--report", tmp_path / "r")
    assert result.exit_code == 0, result.output
    page = (tmp_path / "r" / "index.html").read_text()
    assert "mien evaluate age-gender" in page and page.count("<img") == 20
    again = evaluate("age-gender", "--data", age_gender_folder, "--report", tmp_path / "r")
    assert again.exit_code == 2 and "already holds a report; choose another folder, or name" in one_line(again)
    assert (tmp_path / "r" / "index.html").read_text() == page


def test_a_named_page_is_replaced_and_nothing_else(landmark_folder: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text("old")
    assert evaluate("landmarks", "--data", landmark_folder, "--report", page).exit_code == 0
    assert "mien evaluate landmarks" in page.read_text()
    labels = landmark_folder / "landmarks.csv"
    before = labels.read_bytes()
    for place in (labels, tmp_path / "no" / "folder"):
        result = evaluate("landmarks", "--data", landmark_folder, "--report", place)
        assert result.exit_code == 2 and "folder" in one_line(result)
    assert labels.read_bytes() == before


@pytest.mark.parametrize(("task", "folder"), [("landmarks", "landmark_folder"), ("age-gender", "age_gender_folder")])
def test_a_detector_that_would_not_be_used_is_refused(
    task: str, folder: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    given = ("--data", request.getfixturevalue(folder), "--detector", shipped_model("detector"))
    refused = evaluate(task, *given, "--report", tmp_path / "r")
    assert refused.exit_code == 2 and "goes with --detect, which evaluates the whole pipeline" in one_line(refused)
    assert not (tmp_path / "r").exists()


def test_a_failed_evaluation_leaves_no_folder(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert evaluate("landmarks", "--data", tmp_path / "empty", "--report", tmp_path / "r").exit_code == 2
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    ("task", "folder", "options"),
    [
        ("landmarks", "landmark_folder", ()),
        ("landmarks", "landmark_folder", ("--detect",)),
        ("age-gender", "age_gender_folder", ()),
        ("detector", "landmark_folder", ()),
    ],
)
def test_a_model_of_another_precision_is_refused(
    task: str, folder: str, options: tuple[str, ...], request: pytest.FixtureRequest
) -> None:
    model = shipped_model(task.replace("-", "_"), Precision.INT8)
    data = ("--data", request.getfixturevalue(folder))
    result = evaluate(task, *data, "--model", model, "--precision", "fp32", *options)
    assert result.exit_code == 2 and "in fp32, found one in int8" in one_line(result)


def test_names_in_square_brackets_are_printed_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    row = {"count": 1, "gender_calibration_error": None, "accuracy": 50.0}
    print_tables({"task": "classify", "by_class": {"[b]": row, "[/b]": row}, "unreadable": []})
    printed = capsys.readouterr().out
    assert "By class" in printed and "gender calibration error" in printed
    assert [line.split()[1] for line in printed.splitlines() if "50" in line] == ["[b]", "[/b]"]
