"""`mien bench` as a user meets it; what the other commands share is in test_cli."""

from __future__ import annotations

import csv
import io
import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from mien.bench.report.report import BenchReport
from mien.bench.report.tables import to_csv
from mien.bench.suite import benchmark
from mien.cli import app
from mien.runtime.models.shipped import shipped_model
from mien.tests.bench.report.test_report import full_report

run = CliRunner()


def mien(*arguments: object, code: int = 0) -> Result:
    result = run.invoke(app, [str(a) for a in arguments])
    assert result.exit_code == code, f"{result.output}\n{result.exception!r}"
    return result


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One quick run over the landmark model."""
    path = tmp_path_factory.mktemp("bench") / "a.json"
    mien(
        "bench", shipped_model("landmarks"), "--baseline", "none", "--rounds", 6, "--calls-per-round", 2, "--json", path
    )
    return path


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--baseline", "fast"],
            "--baseline (or none) expects one or more of eager, eager-fp16, channels-last, compile; found 'fast'",
        ),
        (["--level", "pipeline"], "use --pipeline CLIP"),
        (["--level", "crop"], "--level expects one or more of model, picture"),
        (["--budget", "8"], "expected a duration such as 8ms"),
        (["--max-nme-loss", "0.2"], "--max-nme-loss goes with --budget"),
        (["--max-nme-loss", "0.2", "--budget", "8ms"], "--max-nme-loss needs --data"),
        (["--pipeline", "none.mp4"], "no file none.mp4"),
        (["none.onnx"], "no file none.onnx"),
        (["--batch", "0"], "integers of at least 1"),
        (["--batch", "1,99999999999999999999"], "--batch expects integers up to 65536"),
        (["--rounds", "0"], "invalid value for '--rounds'"),
        (["--rounds", "99999999999999999999"], "invalid value for '--rounds'"),
        (["--calls-per-round", "-1"], "invalid value for '--calls-per-round'"),
        (["--threads", "100000"], "invalid value for '--threads'"),
        (["--timeout", "inf"], "invalid value for '--timeout'"),
        (["--timeout", "nan"], "invalid value for '--timeout'"),
    ],
)
def test_misuse_is_told_before_anything_is_measured(options: list[str], message: str) -> None:
    assert message in " ".join(mien("bench", *options, code=2).stderr.split())


def test_a_budget_names_what_to_ship_and_how(tmp_path: Path) -> None:
    quick = ["--baseline", "none", "--rounds", 5, "--calls-per-round", 2, "--processes", 1]
    quick += ["--csv", tmp_path / "b.csv", "--html", tmp_path / "b.html"]
    told = mien("bench", shipped_model("landmarks"), *quick, "--budget", "2s").stdout
    assert "Within 2000 ms at p90" in told and "accuracy was not measured" in told
    assert f"mien webcam --model {shipped_model('landmarks')} --provider cpu --threads 1" in told
    rows = list(csv.DictReader(io.StringIO((tmp_path / "b.csv").read_text(encoding="utf-8"))))
    assert rows[0]["task"] == "landmarks" and float(rows[0]["peak_mib"]) > 10
    assert "Footprint" in (tmp_path / "b.html").read_text(encoding="utf-8")
    nothing = mien("bench", shipped_model("landmarks"), *quick, "--budget", "1us", code=1)
    assert "nothing within 0.001 ms" in nothing.stdout and "nothing fits the budget for landmarks" in nothing.stderr


def test_what_is_lost_is_in_the_table_and_fails(tmp_path: Path) -> None:
    broken = tmp_path / "bro\nken.onnx"
    broken.write_bytes(b"no model")
    options = ["--baseline", "none", "--rounds", 2, "--processes", 1]
    told = mien("bench", broken, shipped_model("landmarks"), *options, code=1)
    assert "refused" in told.stdout and "Failed: bro\\nken on cpu" in told.stdout
    assert "not everything could be measured" in told.stderr


def test_a_candidate_that_was_measured_and_is_lost_now_fails_the_comparison(report: Path, tmp_path: Path) -> None:
    raw = json.loads(report.read_text())
    twin = json.loads(json.dumps(raw["rows"][0]))
    twin["measurement"]["description"]["name"] = "twin"
    both, one = tmp_path / "both.json", tmp_path / "one.json"
    both.write_text(json.dumps(raw | {"rows": [*raw["rows"], twin]}))
    lost = {"description": twin["measurement"]["description"], "failure": "hung", "reason": "no answer within 3 s"}
    one.write_text(json.dumps(raw | {"failed": [lost]}))
    told = mien("bench", "compare", both, one, code=1)
    assert "twin: hung (no answer within 3 s)" in told.stderr.splitlines()
    assert f"{one} is worse than {both}: 1 regression, listed above" in told.stderr
    told = mien("bench", "compare", both, report, "--allow-mismatch", code=1)
    assert "twin: missing from the new report" in told.stderr.splitlines()
    assert f"only in {both}: twin" in mien("bench", "compare", report, both).stderr.splitlines()


def test_a_file_that_cannot_be_opened_any_more_fails_the_comparison(tmp_path: Path) -> None:
    model, old, new = tmp_path / "w.onnx", tmp_path / "old.json", tmp_path / "new.json"
    model.write_bytes(shipped_model("detector").read_bytes())
    options = [
        shipped_model("landmarks"),
        model,
        "--baseline",
        "none",
        "--rounds",
        5,
        "--calls-per-round",
        2,
        "--processes",
        1,
    ]
    mien("bench", *options, "--json", old)
    model.write_bytes(model.read_bytes()[:500_000])
    mien("bench", *options, "--json", new, code=1)
    told = mien("bench", "compare", old, new, "--fail-if", "p50>+900%", code=1)
    assert "w/cpu/fp32/1: refused (" in told.stderr and "one process: the intervals do not cover" in told.stderr


def test_options_without_effect_are_refused() -> None:
    assert "--held-out goes with --data" in mien("bench", "--held-out", code=2).stderr
    assert "no file nowhere.npz" in mien("bench", "--inputs", "nowhere.npz", code=2).stderr


def test_accuracy_that_was_not_measured_cannot_be_compared(report: Path) -> None:
    assert "measure both with --data" in mien("bench", "compare", report, report, "--fail-if", "nme>+1%", code=2).stderr


def test_the_report_has_what_the_documentation_says(report: Path) -> None:
    """Every key of the schema in docs/bench.md is in a report, and the other way round."""
    page = (Path(__file__).parents[3] / "docs" / "bench.md").read_text(encoding="utf-8")
    schema = page.split("<!-- schema -->")[1].split("<!-- end of schema -->")[0]
    documented = {
        cell.strip(" `") for line in schema.splitlines() if line.startswith("| `") for cell in line.split("|")[1:2]
    }
    raw = json.loads(report.read_text())
    row = raw["rows"][0]
    written = {*raw} | {f"conditions.{k}" for k in raw["conditions"]} | {f"environment.{k}" for k in raw["environment"]}
    written |= {f"rows.{k}" for k in row} | {f"rows.metadata.{k}" for k in row["metadata"]}
    written |= {f"rows.measurement.{k}" for k in row["measurement"]}
    written |= {f"rows.measurement.description.{k}" for k in row["measurement"]["description"]}
    assert documented == written
    assert BenchReport.from_json(report.read_text(), origin="a").rows


def test_a_report_that_cannot_be_written_is_printed_and_the_others_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full, table, unfit = tmp_path / "gone" / "b.json", tmp_path / "b.csv", tmp_path / "b.html"
    full.parent.mkdir()
    made = replace(full_report(), conditions=None)

    def measure(*_: object, **__: object) -> BenchReport:
        full.parent.rmdir()  # while it was measured
        return made

    monkeypatch.setattr(benchmark, "run_bench", measure)
    told = mien("bench", "--json", full, "--csv", table, "--html", unfit, "--budget", "1s", code=2)
    assert f"cannot write {full} (No such file or directory); its content was printed instead" in told.stderr
    printed = next(line for line in told.stdout.splitlines() if line.startswith("{"))
    assert BenchReport.from_json(printed, origin="printed") == made
    assert "Within 1000 ms at p90" in told.stdout, "what follows is not left out"
    assert table.read_text(encoding="utf-8") == to_csv(made) and unfit.is_file()


def test_the_help_shows_the_commands_the_options_and_examples() -> None:
    told = " ".join(mien("bench", "--help").stdout.split())
    for words in ("compare", "--calls-per-round", "[default: 20]", "mien bench --data landmarks68 --budget 8ms"):
        assert words in told, words
    assert "--fail-if" in mien("bench", "compare", "--help").stdout
    assert "--calls-per-round" in mien("bench", "run", "--help").stdout


def test_names_are_not_taken_for_markup(report: Path, tmp_path: Path) -> None:
    odd = tmp_path / "[bold]a[red].json"
    odd.write_text(report.read_text().replace("landmarks/cpu", "[/x]/cpu"))
    assert "[/x]/cpu/fp32/1" in mien("bench", "compare", odd, odd, "--fail-if", "p50>+900%").stdout


def test_a_damaged_report_gives_one_line(tmp_path: Path) -> None:
    """Seeded changes anywhere in a report: an exit code and a reason, never a traceback."""
    rng = random.Random(0)
    text = full_report().to_json()
    odd = [None, True, -1, 0, 10**400, 2**63, 1e300, 1e-300, "", "x", [], [[]], {}, {"a": []}]
    report, path = tmp_path / "whole.json", tmp_path / "odd.json"
    report.write_text(text)
    rules = [f"--fail-if={rule}" for rule in ("max>+5%", "ratio<-5%", "nme>+1%")]
    for number in range(120):
        raw = json.loads(text)
        for _ in range(rng.choice((1, 1, 2))):
            change_one(raw, rng, odd)
        path.write_text(json.dumps(raw))
        files = [path, report] if number % 2 else [report, path]
        result = run.invoke(app, ["bench", "compare", *map(str, files), rng.choice(rules), "--allow-mismatch"])
        assert result.exit_code in (0, 1, 2), result.output
        assert isinstance(result.exception, (SystemExit, type(None))), f"{result.exception!r} for {raw}"
    for content in (b"", b"\0" * 99, b"\xff\xfe", text.encode()[: len(text) // 2], b'{"format": "mien-bench"}'):
        path.write_bytes(content)
        told = mien("bench", "compare", path, report, code=2).stderr
        assert told.count("\n") == 1 and str(path) in told
    assert f"{tmp_path} is a folder, expected a report" in mien("bench", "compare", tmp_path, report, code=2).stderr


def change_one(node: Any, rng: random.Random, odd: list[Any]) -> None:
    """Replace or remove one value somewhere below a node."""
    while isinstance(node, dict | list) and node:
        key = rng.choice(list(node)) if isinstance(node, dict) else rng.randrange(len(node))
        if not isinstance(node[key], dict | list) or not node[key] or rng.random() < 0.03:
            if rng.random() < 0.2:
                del node[key]
            else:
                node[key] = rng.choice(odd)
            return
        node = node[key]
