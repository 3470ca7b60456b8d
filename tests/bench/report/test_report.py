from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mien.bench.accuracy.accuracy import Metric, mean_accuracy
from mien.bench.parity.parity import Parity, ParityGate, Unit, parity_of
from mien.bench.report.build_report import build_report
from mien.bench.report.html_charts import round_values
from mien.bench.report.html_report import to_html
from mien.bench.report.report import (
    VERSION,
    BenchReport,
    CandidateMetadata,
    FailedCandidate,
    Row,
    RunConditions,
)
from mien.bench.report.tables import aligned, parity_cell, to_csv, to_markdown
from mien.bench.timing.environment import Environment
from mien.bench.timing.measurement import Description, Measurement, ProcessRun
from mien.bench.timing.sensors import Reading
from mien.bench.timing.speedup import Ratio
from mien.bench.worker.process import FailureKind
from mien.runtime.errors import InputError
from mien.runtime.models.spec import Precision

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
    return Measurement(description, (ProcessRun((latency_ns,) * 20, ((latency_ns,) * 10,) * rounds),))


def report(parities: dict[str, ParityGate], *, rounds: int = 20) -> BenchReport:
    return build_report(
        [
            Row(measured("eager", 4_000_000, provider="eager-cpu", rounds=rounds)),
            Row(measured("ort", 2_000_000, rounds=rounds), parity=parities.get("ort")),
        ],
        ENVIRONMENT,
        baseline_of={"ort": "eager"},
    )


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.split("|")[1:-1]]


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
    lines = to_markdown(found).splitlines()
    assert "ratio to eager" in lines[0]
    assert cells(lines[2])[-2:] == ["baseline", "–"]
    assert cells(lines[3]) == [
        *("landmarks", "fp16", "cpu", "1", "2.000", "2.000", "2.000", "500.0", "2.00× (2.00–2.00)", "yes, 0.1 px")
    ]
    assert cells(lines[8])[:7] == ["landmarks", "fp16", "cpu", "all", "200", "20", "2.000"]
    assert "Warning" not in to_markdown(found)


@pytest.mark.parametrize("parity", [None, OTHER, NOT_A_NUMBER, ParityGate(())])
def test_no_ratio_without_a_true_parity(parity: ParityGate | None) -> None:
    found = report({} if parity is None else {"ort": parity})
    assert found.rows[1].ratio is None
    text = to_markdown(found)
    assert "×" not in text
    assert "withheld" in text
    assert "No ratio for landmarks fp16 on cpu, batch 1: its parity" in text
    with pytest.raises(ValueError, match="a ratio needs parity"):
        Row(measured("ort", 1), baseline="eager", ratio=RATIO, parity=parity)
    with pytest.raises(ValueError, match="a ratio needs parity"):
        replace(report({"ort": SAME}).rows[1], parity=parity)
    assert "summary" in found.to_json()


def test_too_few_rounds_withhold_the_ratio() -> None:
    found = report({"ort": SAME}, rounds=1)
    assert found.rows[1].withheld == "an interval needs 5 rounds; found 1"
    assert "Warning, landmarks fp16 on cpu, batch 1: only 10 calls" in to_markdown(found)


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
        ("[" * 200_000, "is not JSON"),
        (broken(lambda raw: raw.update(version="1")), f"expected report version {VERSION}; found '1'"),
        (broken(lambda raw: raw.pop("version")), f"expected report version {VERSION}; found None"),
        (broken(lambda raw: raw.pop("rows")), "has no 'rows'"),
        (broken(lambda raw: raw["environment"].pop("cpu")), "has no 'cpu'"),
        (broken(lambda raw: raw["environment"].update(load_average=[1.0])), "cannot be read"),
        (broken(lambda raw: raw.update(rows={})), "cannot be read"),
        (broken(lambda raw: raw.update(environment=None)), "cannot be read"),
        (
            broken(lambda raw: raw["rows"][0]["measurement"]["processes"][0].update(latencies_ns=[])),
            "at least one round",
        ),
        (broken(lambda raw: raw["rows"][0]["measurement"]["processes"][0].update(latencies_ns=[[0]])), "above 0"),
        (
            broken(lambda raw: raw["rows"][0]["measurement"]["processes"][0].update(latencies_ns=[[1], [1, 2]])),
            "the same number of calls",
        ),
        (
            broken(lambda raw: raw["rows"][0]["measurement"]["processes"][0].update(latencies_ns=[[10**400]])),
            "below 2",
        ),
        (
            broken(lambda raw: raw["rows"][0]["measurement"]["processes"][0].update(latencies_ns=[[9]] * 7)),
            "different rounds",
        ),
        (
            broken(lambda raw: raw["rows"][0]["measurement"]["processes"][0].update(latencies_ns=[[1.5]])),
            "expected int, found '1.5'",
        ),
        (
            broken(lambda raw: raw["rows"][0]["measurement"]["processes"][0].update(latencies_ns=[["1"]])),
            "expected int",
        ),
        (
            broken(lambda raw: raw["rows"][0]["measurement"]["processes"][0].update(latencies_ns=[[True]])),
            "expected int",
        ),
        (broken(lambda raw: raw["rows"][0]["measurement"]["description"].update(precision="fp8")), "fp8"),
        (
            broken(lambda raw: raw["rows"][0]["measurement"]["description"].update(name="ort")),
            "the same name",
        ),
        (broken(lambda raw: raw["rows"][1].update(baseline="tensorrt")), "was not measured: tensorrt"),
        (broken(lambda raw: raw["rows"][1].update(parity=None)), "a ratio needs parity"),
        (broken(lambda raw: raw["rows"][1]["parity"]["parts"][0].update(max=9.0)), "a ratio needs parity"),
        (
            broken(lambda raw: raw["rows"][1]["parity"]["parts"][0].update(max=None)),
            "a ratio needs parity",
        ),
        (broken(lambda raw: raw["rows"][1]["parity"].update(parts=[])), "a ratio needs parity"),
        (broken(lambda raw: raw["rows"][1]["ratio"].update(low=None)), "no ratio with an interval"),
        (broken(lambda raw: raw["rows"][1].update(ratio=None)), "expected either a ratio"),
        (broken(lambda raw: raw["rows"][1].update(baseline=None)), "a ratio needs a baseline"),
    ],
)
def test_bad_foreign_and_future_files_are_refused(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        BenchReport.from_json(text, origin="a.json")
    assert str(error.value).startswith("a.json")


def test_more_keys_are_welcome() -> None:
    text = broken(lambda raw: raw["environment"].update(owner="none") or raw["rows"][0].update(note="x"))
    assert BenchReport.from_json(text, origin="a.json") == report({"ort": SAME})


def test_names_that_were_not_measured_are_refused() -> None:
    a = Row(measured("a", 1))
    with pytest.raises(InputError, match="not measured: eager"):
        build_report([a], ENVIRONMENT, baseline_of={"a": "eager"})
    with pytest.raises(InputError, match="measured: a, a"):
        build_report([a, a], ENVIRONMENT, baseline_of={})


def test_markdown_tells_the_machine_and_survives_bars_in_names() -> None:
    busy = replace(ENVIRONMENT, load_average=(2.0, 1.0, 1.0))
    description = replace(measured("a", 1).description, model="a|b")
    odd = replace(measured("a", 1_000_000), description=description)
    text = to_markdown(build_report([Row(odd)], busy, baseline_of={}))
    header, rule, row = text.splitlines()[:3]
    assert header.count("|") == rule.count("|") == row.replace("\\|", "").count("|") == 11
    assert "\nFast Chip, 2 cores, 23.5 GiB, 2600 MHz, load 2.00; Linux 6.1 x86_64, Python 3.10.1, " in text
    assert "Warning: the machine was busy" in text


def test_the_page_stands_alone_and_escapes_what_it_is_told() -> None:
    whole = report({"ort": OTHER})
    page = to_html(replace(whole, warnings=("<script>alert(1)</script>",)))
    assert page.count("<circle") == sum(len(row.measurement.calls_ns) for row in whole.rows)
    assert page.count("<tr>") == 2 * (1 + len(whole.rows)) and "http" not in page and "<script" not in page
    assert "&lt;script&gt;alert(1)" in page


def test_throughput_is_drawn_where_several_batches_were_measured() -> None:
    def row(provider: str, batch: int, latency_ns: int) -> Row:
        one = measured(f"{provider}/{batch}", latency_ns, provider=provider)
        return Row(replace(one, description=replace(one.description, batch=batch)))

    rows = [row("cpu", 8, 4_000_000), row("cpu", 1, 1_000_000), row("cuda", 1, 2_000_000)]
    page = to_html(BenchReport(ENVIRONMENT, tuple(rows)))
    assert (
        "<li>cpu, fp16: 1000 at batch 1, 2000 at batch 8</li>" in page and "<li>cuda, fp16: 500 at batch 1</li>" in page
    )
    (first, _) = re.findall(r'class="line" d="M([^"]*)"', page)
    (x1, y1), (x8, y8) = ([float(number) for number in point.split()] for point in first.split("L"))
    assert x1 < x8 and y1 > y8, "larger batches to the right, more images per second up"
    assert "Throughput" not in to_html(BenchReport(ENVIRONMENT, tuple(rows[1:]))), "one batch size is no chart"


@pytest.mark.parametrize(("low", "high", "values"), [(0, 789.7, 5), (3.87, 4.12, 5), (0, 1e-9, 6), (80, 81, 6)])
def test_an_axis_has_round_values(low: float, high: float, values: int) -> None:
    found = round_values(low, high)
    assert 3 <= len(found) <= values and low <= found[0] and found[-1] <= high * (1 + 1e-9)
    assert all(len(f"{value:.3g}") <= 6 for value in found)


def test_csv_has_a_line_a_row() -> None:
    whole = report({"ort": OTHER})
    rows = list(csv.DictReader(io.StringIO(to_csv(whole))))
    assert [r["name"] for r in rows] == [row.name for row in whole.rows]
    head = to_csv(whole).splitlines()[0].split(",")
    assert len(set(head)) == len(head), "each column has a name of its own"
    assert all(float(r["p50_ms"]) == row.measurement.p50_ms for r, row in zip(rows, whole.rows, strict=True))


def full_report() -> BenchReport:
    """A report that has something in every field."""
    metadata = CandidateMetadata(file="net.onnx", size_bytes=4_500_000, peak_mib=104.4, nodes=10, nodes_on_provider=8)
    slow = CandidateMetadata(
        file="net.onnx", overhead_us=80.0, bare_us=1000.0, power_w=9.5, energy_mj=19.0, inputs="noise"
    )
    accuracy = mean_accuracy(np.array([3.0, 4.0, 5.0]), Metric.NME, data_digest="d")
    gone = FailedCandidate(
        replace(measured("rt", 1).description, provider="cuda"), FailureKind.HUNG, "no answer within 3 s"
    )
    conditions = RunConditions(
        rounds=20,
        calls_per_round=10,
        interrupted=True,
        others_cores=0.5,
        stolen_cores=0.3,
        readings=(Reading(clock_mhz=2000.0, throttled=0), Reading(clock_mhz=1000.0, throttled=2)),
    )
    return build_report(
        [
            Row(measured("eager", 4_000_000, provider="eager-cpu"), metadata=metadata),
            Row(
                measured("ort", 2_000_000),
                parity=SAME,
                metadata=slow,
                accuracy=accuracy,
                stages_ns={"detect": (3_000_000,), "process": (4_000_000, 6_000_000)},
            ),
        ],
        ENVIRONMENT,
        baseline_of={"ort": "eager"},
        failed=[gone],
        conditions=conditions,
    )


def test_everything_that_is_known_goes_through_json() -> None:
    found = full_report()
    assert BenchReport.from_json(found.to_json(), origin="a.json") == found


def test_what_gives_to_doubt_is_told() -> None:
    text = to_markdown(full_report())
    for words in (
        "2 of its 10 nodes run elsewhere",
        "mien's own code adds 80 µs to a call of 1000 µs",
        "the run was interrupted",
        "one process: the intervals do not cover",
        "other processes used 0.50 cores",
        "the hypervisor gave 0.30 cores",
        "the CPU's clock changed between 1000 and 2000 MHz",
        "throttled 2 times",
        "Failed: landmarks fp16 on cuda, batch 1: hung (no answer within 3 s)",
    ):
        assert words in text, words
    assert "During the rounds: 1000 to 2000 MHz, 0.50 cores used by others." in text
    assert "nme 4.00 %" in text and "mJ per call" in text


@pytest.mark.parametrize(
    ("own_us", "bare_us", "small"), [(50.0, 10.0, True), (51.0, 10.0, False), (99.0, 2000.0, True), (-3.0, 1.0, True)]
)
def test_a_runner_may_add_fifty_microseconds_or_five_percent(own_us: float, bare_us: float, small: bool) -> None:
    assert CandidateMetadata(overhead_us=own_us, bare_us=bare_us).overhead_is_small is small
    assert CandidateMetadata().overhead_is_small is None


def test_the_part_that_fails_is_the_one_that_is_told() -> None:
    good = parity_of(np.array([0.1]), unit=Unit.PX, tolerance=0.25)
    bad = parity_of(np.array([0.5]), unit=Unit.SCORE, tolerance=0.02)
    for parts, told in [((good, bad), "NO, 0.5 score"), ((good,), "yes, 0.1 px"), ((), "NO")]:
        assert parity_cell(Row(measured("a", 1), parity=ParityGate(parts))) == told
    assert parity_cell(Row(measured("a", 1))) == "–"


def test_a_lost_candidate_has_a_row_in_every_output() -> None:
    whole = full_report()
    table = [cells(line) for line in to_markdown(whole).splitlines() if line.startswith("|")]
    assert ["landmarks", "fp16", "cuda", "1", "hung", *["–"] * 6] in table
    rows = list(csv.DictReader(io.StringIO(to_csv(whole))))
    assert rows[-1]["name"] == "rt" and rows[-1]["failure"] == "hung: no answer within 3 s" and not rows[-1]["p50_ms"]
    assert rows[1]["accuracy"] == "4.0" and rows[1]["metric"] == "nme" and rows[0]["size_bytes"] == "4500000"
    page = to_html(whole)
    assert (
        '<td class=no data-head="p50 ms">hung</td>' in page
        and "Speed against accuracy" in page
        and "Stages of the" in page
    )


def test_a_lost_baseline_gives_no_ratio_and_says_so() -> None:
    gone = FailedCandidate(measured("eager", 1).description, FailureKind.CRASHED, "SIGABRT")
    found = build_report(
        [Row(measured("ort", 1), parity=SAME)], ENVIRONMENT, baseline_of={"ort": "eager"}, failed=[gone]
    )
    assert found.rows[0].ratio is None and "no ratio: its baseline eager failed" in found.rows[0].warnings
    with pytest.raises(ValueError, match="the same name"):
        replace(found, failed=(FailedCandidate(measured("ort", 1).description, FailureKind.CRASHED, "x"),))


def test_the_committed_report_is_read() -> None:
    path = Path(__file__).parents[3] / "docs" / "results" / "bench.json"
    committed = BenchReport.from_json(path.read_text(encoding="utf-8"), origin=str(path))
    assert committed.rows and all(row.measurement.p50_ms > 0 for row in committed.rows)
    assert json.loads(path.read_text(encoding="utf-8"))["version"] == VERSION, "make results makes a new one"
    assert all(len(row.measurement.processes) > 1 for row in committed.rows)


def test_columns_stand_below_each_other() -> None:
    lines = aligned(["name", "ms"], [["a|b", "1.5"], ["漢字", "2.5"], ["longer name", "12.25"]], words=1).splitlines()
    assert lines == [
        "| name        |    ms |",
        "| ----------- | ----: |",
        "| a\\|b        |   1.5 |",
        "| 漢字        |   2.5 |",
        "| longer name | 12.25 |",
    ]


def test_an_empty_report_is_a_page_too() -> None:
    assert "Nothing was measured" in to_html(BenchReport(ENVIRONMENT, ()))
