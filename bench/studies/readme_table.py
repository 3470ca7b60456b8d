"""Writes the README's tables from ``docs/results``: ``python -m mien.bench.studies.readme_table``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...runtime.wording import counted
from ..report.report import BenchReport, Row

ROOT = Path(__file__).parents[2]
BEGIN, END = "<!-- figures: made by `make results` -->", "<!-- end of figures -->"


def figures(results: Path) -> str:
    """Render the accuracy and latency of the shipped models as Markdown."""
    texts = {path.stem: path.read_text(encoding="utf-8") for path in results.glob("*.json")}
    report = BenchReport.from_json(texts.pop("bench"), origin="bench.json")
    summaries = {name: json.loads(text) for name, text in texts.items()}
    return "\n\n".join([_landmarks(summaries), _detector(summaries), _attributes(summaries), _latency(report)])


def _landmarks(summaries: Mapping[str, Any]) -> str:
    landmarks, whole = summaries["landmarks"], summaries["landmarks-detected"]
    rows = {
        **landmarks["by_source"],
        "all": landmarks,
        "of them, the test split": landmarks["test_split"],
        "all, in int8": summaries["landmarks-int8"],
        "all, detected first": whole,
    }
    lines = ["| held-out faces | NME % | AUC@8 % | FR@8 % | faces |", "|---|--:|--:|--:|--:|"]
    for source, row in rows.items():
        lines.append(f"| {source} | {row['nme']:.2f} | {row['auc8']:.1f} | {row['fr8']:.1f} | {row['count']} |")
    lines += [
        "",
        f"Not found in “detected first”: {whole['not_detected']} of {whole['count']} faces, which count as failures.",
    ]
    return "\n".join(lines)


def _detector(summaries: Mapping[str, Any]) -> str:
    detector = summaries["detector"]
    sizes = {f"{side} px": row for side, row in detector["by_min_side_px"].items()}
    rows = {
        "any size": detector,
        "of them, the test split": detector["test_split"],
        "any size, in int8": summaries["detector-int8"],
        **sizes,
    }
    lines = ["| held-out pictures, faces from | AP50 % | recall at 90 % precision | faces |", "|---|--:|--:|--:|"]
    for name, row in rows.items():
        lines.append(f"| {name} | {row['ap50']:.1f} | {row['recall_at_precision_90']:.1f} | {row['count']} |")
    return "\n".join(lines)


def _attributes(summaries: Mapping[str, Any]) -> str:
    rows = {
        "as given": summaries["age-gender"],
        "of them, the test split": summaries["age-gender"]["test_split"],
        "as given, in int8": summaries["age-gender-int8"],
        "detected, aligned by landmarks": summaries["age-gender-detected"],
    }
    lines = [
        "| held-out aligned faces | age MAE, years | within 5 years % | gender % | faces |",
        "|---|--:|--:|--:|--:|",
    ]
    for name, row in rows.items():
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
    return "\n".join(
        [*lines, "", f"{environment.cpu}, {counted(report.rows[0].measurement.description.threads, 'thread')}."]
    )


def _row(row: Row) -> str:
    m, about = row.measurement, row.measurement.description
    name = "ONNX Runtime" if about.provider == "cpu" else about.provider
    if about.precision is not None:
        name += f", {about.precision.value}"
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
