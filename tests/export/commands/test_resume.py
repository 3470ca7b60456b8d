"""`mien train … --resume RUN` alone goes on; what is given beside it may only be what keeps the result."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from mien.cli import app
from mien.export.commands.resume import run_to_resume

OPTIONS = "--backbone reslayer --weights none --input-size 32 --batch-size 8 --workers 0 --learning-rate 0.002"


def mien(*words: object) -> Result:
    return CliRunner().invoke(app, ["train", *map(str, words)])


def epochs_of(run: Path) -> list[str]:
    with (run / "metrics.csv").open(newline="") as handle:
        return [row["epoch"] for row in csv.DictReader(handle)]


@pytest.fixture(scope="module")
def trained(drawn_shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data and a finished run of one epoch; its data were named relative to that folder."""
    folder = tmp_path_factory.mktemp("trained")
    shutil.copytree(drawn_shapes, folder / "shapes")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        result = mien("classify", "--data", "shapes", *OPTIONS.split(), "--epochs", 1, "--out", "runs/x")
    assert result.exit_code == 0, result.output
    return folder


@pytest.fixture
def run(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the finished run, in a copy of its folder."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "runs" / "x"


def test_a_run_goes_on_with_its_own_options(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    assert mien("classify", "--resume", run, "--epochs", 2).exit_code == 0
    assert epochs_of(run) == ["1", "2"]
    assert mien("classify", f"--resume={run}").exit_code == 0  # those two epochs are its own now
    assert mien("classify", "--out", run, "--resume", "--epochs", 3).exit_code == 0
    assert epochs_of(run) == ["1", "2", "3"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("classify --resume runs/x --input-size 64", "input_size was 32, is 64"),
        ("classify --resume runs/x --seed 3", "seed was 0, is 3"),
        ("classify --resume runs/x --out runs/y", "--resume runs/x continues in that folder; omit --out runs/y"),
        ("classify --resume runs/y", "nothing to resume: no runs/y/last.pt"),
        ("classify --resume", "nothing to resume: no runs/classify/last.pt"),
        (
            "landmarks --resume runs/x",
            "run of mien train classify, not landmarks; run: mien train classify --resume runs/x",
        ),
    ],
)
def test_a_run_is_not_resumed_as_another(run: Path, words: str, message: str) -> None:
    before = (run / "last.pt").read_bytes()
    result = mien(*words.split())
    assert result.exit_code == 2 and message in " ".join(result.output.split())
    assert (run / "last.pt").read_bytes() == before


def test_runs_count_up_and_the_latest_is_resumed(
    class_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    train = ["classify", "--data", class_folder, *OPTIONS.split(), "--epochs", 1]
    for number in range(2):
        assert mien(*train, "--seed", number).exit_code == 0
    first, second = tmp_path / "runs" / "classify", tmp_path / "runs" / "classify-2"
    assert epochs_of(first) == epochs_of(second) == ["1"]
    (tmp_path / "runs" / "classify-old").mkdir()
    (tmp_path / "runs" / "classify-old" / "last.pt").write_bytes(b"of someone else")
    assert mien("classify", "--resume", "--epochs", 2).exit_code == 0
    assert epochs_of(first) == ["1"] and epochs_of(second) == ["1", "2"]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("--data d --resume r", "r"),
        ("--resume=r --data d", "r"),
        ("--resume --out o", "o"),
        ("--out=o --resume", "o"),
        ("--data d --resume", "default"),
        ("--data d --out o", None),
    ],
)
def test_the_folder_of_the_run(words: str, found: str | None) -> None:
    args = words.split()
    assert run_to_resume(args, default="default") == found
    if found is not None and f"--resume={found}" not in args:
        assert args[args.index("--resume") + 1] == found
