"""Writes the README's tables from ``docs/results``: ``python -m mien.bench.studies.readme_table``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..report.report import BenchReport, Row

ROOT = Path(__file__).parents[2]
BEGIN, END = "<!-- figures: made by `make results` -->", "<!-- end of figures -->"


def figures(results: Path) -> str:
    """Render the accuracy and latency of the shipped models as Markdown."""
    landmarks = json.loads((results / "landmarks.json").read_text(encoding="utf-8"))
    whole = json.loads((results / "landmarks-detected.json").read_text(encoding="utf-8"))
    detector = json.loads((results / "detector.json").read_text(encoding="utf-8"))
    ages = json.loads((results / "age-gender.json").read_text(encoding="utf-8"))
    aligned = json.loads((results / "age-gender-detected.json").read_text(encoding="utf-8"))
    report = BenchReport.from_json((results / "bench.json").read_text(encoding="utf-8"), origin="bench.json")
    return "\n\n".join([_accuracy(landmarks, whole, detector), _attributes(ages, aligned), _latency(report)])


def _accuracy(landmarks: dict[str, Any], whole: dict[str, Any], detector: dict[str, Any]) -> str:
    lines = ["| held-out faces | NME % | AUC@8 % | FR@8 % | faces |", "|---|--:|--:|--:|--:|"]
    for source, row in [*landmarks["by_source"].items(), ("all", landmarks), ("all, detected first", whole)]:
        lines.append(f"| {source} | {row['nme']:.2f} | {row['auc8']:.1f} | {row['fr8']:.1f} | {row['count']} |")
    lines += [
        "",
        f"Not found in “detected first”: {whole['not_detected']} of {whole['count']} faces, which count as failures.",
    ]
    lines += ["", "| held-out pictures, faces from | AP50 % | recall at 90 % precision | faces |", "|---|--:|--:|--:|"]
    for side, row in [("any size", detector), *detector["by_min_side_px"].items()]:
        name = side if side == "any size" else f"{side} px"
        lines.append(f"| {name} | {row['ap50']:.1f} | {row['recall_at_precision_90']:.1f} | {row['count']} |")
    return "\n".join(lines)


def _attributes(ages: dict[str, Any], aligned: dict[str, Any]) -> str:
    lines = [
        "| held-out aligned faces | age MAE, years | within 5 years % | gender % | faces |",
        "|---|--:|--:|--:|--:|",
    ]
    for name, row in [("as given", ages), ("detected, aligned by landmarks", aligned)]:
        lines.append(
            f"| {name} | {row['mae_years']:.2f} | {row['cs5']:.1f} | {row['gender_accuracy']:.1f} | {row['count']} |"
        )
    return "\n".join(lines)


def _latency(report: BenchReport) -> str:
    lines = [
        "| model, batch 1 | runs on | p50 ms | p90 ms | p99 ms | faster than eager (95 %) |",
        "|---|---|--:|--:|--:|--:|",
    ]
    lines += [_row(row) for row in report.rows]
    environment = report.environment
    return "\n".join([*lines, "", f"{environment.cpu}, {report.rows[0].measurement.description.threads} thread(s)."])


def _row(row: Row) -> str:
    m, about = row.measurement, row.measurement.description
    name = "ONNX Runtime" if about.provider == "cpu" else about.provider
    ratio = str(row.ratio) if row.ratio is not None else "–"
    return f"| {about.model} | {name} | {m.p50_ms:.2f} | {m.p90_ms:.2f} | {m.p99_ms:.2f} | {ratio} |"


def put_between(text: str, content: str) -> str:
    """Replace the text between the two markers.

    Raises:
        ValueError: A mark is missing.
    """
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n{content}\n{END}{after}"


def main() -> None:
    """Write the tables into the README."""
    readme = ROOT / "README.md"
    content = put_between(readme.read_text(encoding="utf-8"), figures(ROOT / "docs" / "results"))
    readme.write_text(content, encoding="utf-8")


if __name__ == "__main__":
    main()
