from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from mien.bench.comparison import Ratio
from mien.bench.environment import Environment
from mien.bench.html_report import to_html
from mien.bench.measure import Description, Measurement
from mien.bench.parity import Parity, ParityGate, Unit, parity_of
from mien.bench.report import VERSION, BenchReport, Row, build_report
from mien.runtime.errors import InputError
from mien.runtime.runner import Precision

ENVIRONMENT = Environment(
    python="3.10.1",
    os="Linux 6.1",
    machine="x86_64",
    cpu="Fast Chip",
    logical_cores=2,
    memory_gib=23.5,
    packages={"numpy": "1.26.0"},
    governor=None,
    clock_mhz=2600.0,
    load_average=(0.1, 0.2, 0.3),
    utc="2026-01-01T00:00:00+00:00",
)
SAME = ParityGate((parity_of(np.array([0.01, 0.1]), unit=Unit.PX, tolerance=0.25),))
OTHER = ParityGate((parity_of(np.array([0.01, 3.0]), unit=Unit.PX, tolerance=0.25),))
NOT_A_NUMBER = ParityGate((parity_of(np.array([0.01, np.nan]), unit=Unit.PX, tolerance=0.25),))
RATIO = Ratio(value=2.0, low=1.9, high=2.1, rounds=20)


def measured(name: str, latency_ns: int, *, provider: str = "cpu", rounds: int = 20) -> Measurement:
    description = Description(
        name=name, model="landmarks", precision=Precision.FP16, provider=provider, batch=1, threads=0
    )
    return Measurement(description, (latency_ns,) * 20, ((latency_ns,) * 10,) * rounds)


def report(parities: dict[str, ParityGate], *, rounds: int = 20) -> BenchReport:
    return build_report(
        [
            measured("eager", 4_000_000, provider="eager-cpu", rounds=rounds),
            measured("ort", 2_000_000, rounds=rounds),
        ],
        ENVIRONMENT,
        baseline_of={"ort": "eager"},
        parities=parities,
    )


def broken(change: Callable[[dict[str, Any]], object]) -> str:
    raw = json.loads(report({"ort": SAME}).to_json())
    change(raw)
    return json.dumps(raw)


def test_a_true_parity_gets_its_ratio() -> None:
    found = report({"ort": SAME})
    eager, ort = found.rows
    assert eager.ratio is None
    assert eager.withheld is None
    assert ort.ratio is not None
    assert (ort.ratio.value, ort.ratio.low, ort.ratio.high) == pytest.approx((2, 2, 2))
    lines = found.to_markdown().splitlines()
    assert "ratio to eager" in lines[0]
    assert [cell.strip() for cell in lines[2].split("|")[1:-1]][-2:] == ["baseline", "–"]
    assert [cell.strip() for cell in lines[3].split("|")[1:-1]] == [
        *("landmarks", "fp16", "cpu", "1", "all", "200", "20", "2.000", "2.000", "2.000", "2.000", "500.0"),
        *("2.00× (2.00–2.00)", "yes: max 0.1 px (tolerance 0.25)"),
    ]
    assert "Warning" not in found.to_markdown()


@pytest.mark.parametrize("parity", [None, OTHER, NOT_A_NUMBER, ParityGate(())])
def test_no_ratio_without_a_true_parity(parity: ParityGate | None) -> None:
    found = report({} if parity is None else {"ort": parity})
    assert found.rows[1].ratio is None
    text = found.to_markdown()
    assert "×" not in text
    assert "withheld" in text
    assert "No ratio for landmarks fp16 on cpu, batch 1: its parity" in text
    with pytest.raises(ValueError, match="no ratio without parity"):
        Row(measured("ort", 1), baseline="eager", ratio=RATIO, parity=parity)
    with pytest.raises(ValueError, match="no ratio without parity"):
        replace(report({"ort": SAME}).rows[1], parity=parity)
    assert "summary" in found.to_json()


def test_too_few_rounds_withhold_the_ratio() -> None:
    found = report({"ort": SAME}, rounds=1)
    assert found.rows[1].withheld == "1 round(s), an interval needs 5"
    assert "Warning, landmarks fp16 on cpu, batch 1: 10 calls are few" in found.to_markdown()


@pytest.mark.parametrize("parities", [{}, {"ort": SAME}, {"ort": OTHER}])
def test_json_round_trip(parities: dict[str, ParityGate]) -> None:
    found = report(parities)
    back = BenchReport.from_json(found.to_json(), origin="a.json")
    assert back == found
    assert back.to_json() == found.to_json()


def test_json_keeps_what_json_has_no_word_for() -> None:
    bare = replace(ENVIRONMENT, memory_gib=None, clock_mhz=None, load_average=None, governor="powersave")
    far = Parity(unit=Unit.SCORE, tolerance=0.1, max=np.inf, mean=np.inf, p99=0.0, count=3)
    infinite = ParityGate((far,))
    for gate in (NOT_A_NUMBER, infinite):
        row = Row(measured("a", 1), parity=gate)
        text = BenchReport(bare, (row,), ("hot | cold",)).to_json()
        json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
        back = BenchReport.from_json(text, origin="a.json")
        assert back.environment == bare
        assert back.warnings == ("hot | cold",)
        assert back.rows[0].parity is not None
        assert not back.rows[0].parity


def test_json_has_a_summary_for_readers() -> None:
    raw = json.loads(report({"ort": OTHER}).to_json())
    assert (raw["format"], raw["version"]) == ("mien-bench", VERSION)
    eager, ort = raw["rows"]
    assert ort["summary"] == {
        "p50_ms": 2.0,
        "p90_ms": 2.0,
        "p99_ms": 2.0,
        "max_ms": 2.0,
        "images_per_second": 500.0,
        "spread": 1.0,
    }
    assert (eager["passed"], ort["passed"]) == (None, False)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a.json is not JSON"),
        ("{", "a.json is not JSON"),
        ("[]", "not a benchmark report"),
        ('{"benchmarks": []}', "not a benchmark report"),
        (broken(lambda raw: raw.update(version=VERSION + 1)), f"report version {VERSION + 1}, .* upgrade mien"),
        (broken(lambda raw: raw.update(version="1")), f"wanted report version {VERSION}, found '1'"),
        (broken(lambda raw: raw.pop("version")), f"wanted report version {VERSION}, found None"),
        (broken(lambda raw: raw.pop("rows")), "lacks 'rows'"),
        (broken(lambda raw: raw["environment"].pop("cpu")), "lacks 'cpu'"),
        (broken(lambda raw: raw["environment"].update(load_average=[1.0])), "cannot be read"),
        (broken(lambda raw: raw.update(rows={})), "cannot be read"),
        (broken(lambda raw: raw.update(environment=None)), "cannot be read"),
        (broken(lambda raw: raw["rows"][0]["measurement"].update(latencies_ns=[])), "at least one round"),
        (broken(lambda raw: raw["rows"][0]["measurement"].update(latencies_ns=[[0]])), "above 0"),
        (
            broken(lambda raw: raw["rows"][0]["measurement"].update(latencies_ns=[[1.5]])),
            "wanted int, found '1.5'",
        ),
        (broken(lambda raw: raw["rows"][0]["measurement"].update(latencies_ns=[["1"]])), "wanted int"),
        (broken(lambda raw: raw["rows"][0]["measurement"].update(latencies_ns=[[True]])), "wanted int"),
        (broken(lambda raw: raw["rows"][0]["measurement"]["description"].update(precision="fp8")), "fp8"),
        (
            broken(lambda raw: raw["rows"][0]["measurement"]["description"].update(name="ort")),
            "the same name",
        ),
        (broken(lambda raw: raw["rows"][1].update(baseline="tensorrt")), "not measured: tensorrt"),
        (broken(lambda raw: raw["rows"][1].update(parity=None)), "no ratio without parity"),
        (broken(lambda raw: raw["rows"][1]["parity"]["parts"][0].update(max=9.0)), "no ratio without parity"),
        (
            broken(lambda raw: raw["rows"][1]["parity"]["parts"][0].update(max=None)),
            "no ratio without parity",
        ),
        (broken(lambda raw: raw["rows"][1]["parity"].update(parts=[])), "no ratio without parity"),
        (broken(lambda raw: raw["rows"][1]["ratio"].update(low=None)), "no ratio with an interval"),
        (broken(lambda raw: raw["rows"][1].update(ratio=None)), "wanted either a ratio"),
        (broken(lambda raw: raw["rows"][1].update(baseline=None)), "a ratio to nothing"),
    ],
)
def test_bad_foreign_and_future_files_are_refused(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        BenchReport.from_json(text, origin="a.json")
    assert str(error.value).startswith("a.json")


def test_more_keys_are_welcome() -> None:
    text = broken(lambda raw: raw["environment"].update(gpu="none") or raw["rows"][0].update(note="x"))
    assert BenchReport.from_json(text, origin="a.json") == report({"ort": SAME})


def test_names_that_were_not_measured_are_refused() -> None:
    a = measured("a", 1)
    with pytest.raises(InputError, match="not measured: eager"):
        build_report([a], ENVIRONMENT, baseline_of={"a": "eager"}, parities={})
    with pytest.raises(InputError, match="not measured: b"):
        build_report([a], ENVIRONMENT, baseline_of={}, parities={"b": SAME})
    with pytest.raises(InputError, match="measured: a, a"):
        build_report([a, a], ENVIRONMENT, baseline_of={}, parities={})


def test_markdown_tells_the_machine_and_survives_bars_in_names() -> None:
    busy = replace(ENVIRONMENT, load_average=(2.0, 1.0, 1.0))
    description = replace(measured("a", 1).description, model="a|b")
    odd = replace(measured("a", 1_000_000), description=description)
    text = build_report([odd], busy, baseline_of={}, parities={}).to_markdown()
    header, rule, row = text.splitlines()[:3]
    assert header.count("|") == rule.count("|") == row.replace("\\|", "").count("|") == 15
    assert "\nFast Chip, 2 core(s), 23.5 GiB, 2600 MHz, load 2.00; Linux 6.1 x86_64, Python 3.10.1, " in text
    assert "Warning: the machine was busy" in text


def test_the_page_stands_alone_and_escapes_what_it_is_told() -> None:
    whole = report({"ort": OTHER})
    page = to_html(replace(whole, warnings=("<script>alert(1)</script>",)))
    assert page.count("<circle") == sum(len(row.measurement.calls_ns) for row in whole.rows)
    assert page.count("<tr>") == 1 + len(whole.rows) and "http" not in page and "<script" not in page
    assert "&lt;script&gt;alert(1)" in page


def test_csv_has_a_line_a_row() -> None:
    whole = report({"ort": OTHER})
    rows = list(csv.DictReader(io.StringIO(whole.to_csv())))
    assert [r["name"] for r in rows] == [row.name for row in whole.rows]
    assert all(float(r["p50_ms"]) == row.measurement.p50_ms for r, row in zip(rows, whole.rows, strict=True))
