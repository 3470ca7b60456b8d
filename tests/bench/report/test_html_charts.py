from __future__ import annotations

import re

from mien.bench.report.html_charts import HALF_LABEL_PX, TEXT_PX, _number, _ticks, _time_axis


def test_the_first_label_of_an_axis_is_not_clipped() -> None:
    def labels(first_px: float) -> list[tuple[str, str]]:
        parts = "".join(_time_axis(2, 20, lambda ms: first_px + 10 * ms, 100))
        return re.findall(r'text-anchor="(\w+)">([^<]+)<', parts)

    assert labels(0)[0] == ("start", "2 ms")  # 20 px from the edge
    assert labels(HALF_LABEL_PX)[0] == ("middle", "2 ms")
    assert [anchor for anchor, _ in labels(0)[1:]] == ["middle"] * len(labels(0)[1:])


def test_a_short_axis_has_ticks_too() -> None:
    assert _ticks(2.1, 4.6) == [2.5, 3, 3.5, 4, 4.5] and _ticks(0.9, 11) == [1, 2, 5, 10]
    assert len(_ticks(7.01, 7.02)) > 2


def test_numbers_of_marks_at_one_place_are_stacked() -> None:
    placed: list[tuple[float, float]] = []
    drawn = [_number(n, x, 50.0, placed, -TEXT_PX) for n, x in ((1, 9), (2, 9), (3, 90))]
    assert [float(re.findall(r' y="([^"]+)"', text)[0]) for text in drawn] == [50, 50 - TEXT_PX, 50]
