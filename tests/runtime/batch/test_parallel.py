"""Worker threads: results in order, bounded, errors in their turn, nothing left running."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import cv2
import pytest

from mien.runtime.batch.parallel import (
    AHEAD,
    ThreadPlan,
    counter,
    map_pictures,
    opencv_threads,
    ordered_map,
    plan_threads,
    usable_cores,
)
from mien.runtime.errors import InputError


def ours() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("mien")]


@pytest.mark.parametrize("workers", [1, 3])
def test_results_come_in_the_order_of_the_items(workers: int) -> None:
    def slow_at_first(n: int) -> int:
        time.sleep(0.02 if n % 5 == 0 else 0)
        return n * n

    assert list(ordered_map(slow_at_first, range(40), workers=workers)) == [n * n for n in range(40)]
    assert not ours()


def test_workers_work_at_the_same_time() -> None:
    together = threading.Barrier(3, timeout=10)  # breaks unless three are within at once
    assert list(ordered_map(lambda n: together.wait() >= 0, range(6), workers=3)) == [True] * 6


def test_items_are_taken_only_so_far_ahead() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for n in range(1000):
            taken.append(n)
            yield n

    results = ordered_map(lambda n: n, items(), workers=2)
    for n in range(10):
        assert next(results) == n and len(taken) <= n + 2 * AHEAD
    results.close()
    assert len(taken) <= 10 + 2 * AHEAD and not ours()


def test_an_error_comes_in_its_turn_and_ends_the_rest() -> None:
    seen: list[int] = []

    def work(n: int) -> int:
        if n == 3:
            raise RuntimeError("the third")
        seen.append(n)
        return n

    results = ordered_map(work, range(1000), workers=2)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(RuntimeError, match="the third"):
        next(results)
    assert len(seen) <= 3 + 2 * AHEAD and not ours()


def test_what_has_begun_is_finished_before_the_end() -> None:
    finished: list[int] = []

    def work(n: int) -> int:
        time.sleep(0.05)
        finished.append(n)
        return n

    results = ordered_map(work, range(100), workers=2)
    next(results)
    results.close()
    count = len(finished)
    time.sleep(0.12)
    assert len(finished) == count and not ours()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_bad_item_is_told_and_the_rest_goes_on(workers: int) -> None:
    failures: list[str] = []
    written: list[tuple[int, int]] = []
    ticks: list[tuple[int, int]] = []

    def look(n: int) -> Iterator[int]:
        if n == 2:
            raise InputError("no picture 2")
        assert workers == 1 or cv2.getNumThreads() == 1
        yield -n
        if n == 1:
            yield -10
            raise InputError("no frame 2")

    usual = cv2.getNumThreads()
    done = map_pictures(
        range(5),
        look,
        lambda item, result: written.append((item, result)) or item != 3,
        workers=workers,
        failed=failures.append,
        tick=counter(5, lambda done, total: ticks.append((done, total))),
    )
    assert done is False and failures == ["no frame 2", "no picture 2"]
    assert written == [(0, 0), (1, -1), (1, -10), (3, -3)]
    assert ticks == [(1, 5), (2, 5), (3, 5)] and cv2.getNumThreads() == usual and not ours()


def test_opencv_gets_its_threads_back_also_from_an_error() -> None:
    usual = cv2.getNumThreads()
    with pytest.raises(KeyboardInterrupt), opencv_threads(1):
        assert cv2.getNumThreads() == 1
        raise KeyboardInterrupt
    assert cv2.getNumThreads() == usual


def test_threads_are_shared_out_in_all() -> None:
    assert plan_threads(6, several=True) == ThreadPlan(workers=6, threads=1)
    assert plan_threads(6, several=False) == ThreadPlan(workers=1, threads=6)
    for all_cores in (0, None):
        assert plan_threads(all_cores, several=True) == ThreadPlan(workers=usable_cores(), threads=1)
    assert plan_threads(0, several=False) == ThreadPlan(workers=1, threads=0)
    assert plan_threads(None, several=False).threads in (1, 2)
