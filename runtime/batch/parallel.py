"""Processes pictures in worker threads, with results in the order of the pictures."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import cv2

from ..errors import InputError
from ..models.runner import DEFAULT_THREADS
from ..values import Progress

Item = TypeVar("Item")
Result = TypeVar("Result")

AHEAD = 4
"""Items in flight per worker: bounds the memory, yet lets other workers continue while one picture is slow."""


@dataclass(frozen=True, slots=True)
class ThreadPlan:
    """Split of threads between pictures and models.

    Attributes:
        workers: Pictures processed at once.
        threads: Threads of one operator of a model; 0 for all cores.
    """

    workers: int
    threads: int


def plan_threads(threads: int | None, *, several: bool) -> ThreadPlan:
    """Split threads: one per picture if there are several, else all for the operators of one picture or video.

    One thread per picture gives the highest throughput, and the same results as several.

    Args:
        threads: Total threads; 0 for all cores; None for all cores with several pictures, else `DEFAULT_THREADS`.
        several: There are several pictures.
    """
    if several:
        return ThreadPlan(workers=threads or usable_cores(), threads=1)
    return ThreadPlan(workers=1, threads=DEFAULT_THREADS if threads is None else threads)


def usable_cores() -> int:
    """Count the cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def ordered_map(
    work: Callable[[Item], Result], items: Iterable[Item], *, workers: int
) -> Generator[Result, None, None]:
    """Map in worker threads and yield results in the order of the items.

    To stop early, close the generator: items already started are finished, queued ones are dropped.

    Args:
        work: Called with each item. Its exceptions are raised in the item's turn and end the iteration.
        items: Read lazily, at most ``AHEAD`` per worker in advance.
        workers: Number of threads; with 1, `work` runs in the calling thread.
    """
    if workers == 1:
        yield from map(work, items)
        return
    with ThreadPoolExecutor(workers, thread_name_prefix="mien") as pool:
        begun: deque[Future[Result]] = deque()
        try:
            for item in items:
                begun.append(pool.submit(work, item))
                if len(begun) == AHEAD * workers:
                    yield begun.popleft().result()
            while begun:
                yield begun.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def map_pictures(
    items: Sequence[Item],
    work: Callable[[Item], Iterable[Result]],
    write: Callable[[Item, Result], bool],
    *,
    workers: int,
    failed: Callable[[str], None],
    tick: Callable[[], None],
) -> bool:
    """Process pictures in worker threads and write the results in the calling thread, in order.

    Args:
        items: Pictures, or their paths.
        work: Yields the results of one item, one per frame: the first in a worker thread, the others, to save memory,
            in the calling thread while they are written.
        write: Writes one result; returns False to stop.
        workers: Number of threads.
        failed: Called with the message of each InputError that `work` raises; the rest of the item is skipped.
        tick: Called after each item.

    Returns:
        False if `write` stopped the run.
    """

    def begin(item: Item) -> Iterable[Result] | InputError:
        try:
            results = iter(work(item))
            return itertools.chain([next(results)], results)
        except InputError as error:
            return error

    def write_all(item: Item, results: Iterable[Result] | InputError) -> bool:
        try:
            if isinstance(results, InputError):
                raise results
            return all(write(item, result) for result in results)
        except InputError as error:
            failed(str(error))
            return True

    with contextlib.ExitStack() as held:
        if workers > 1:  # OpenCV would start threads of its own in every worker
            held.enter_context(opencv_threads(1))
        begun = held.enter_context(contextlib.closing(ordered_map(begin, items, workers=workers)))
        for item, results in zip(items, begun, strict=True):
            if not write_all(item, results):
                return False
            tick()
    return True


def counter(total: int, progress: Progress | None) -> Callable[[], None]:
    """Return a function that reports one more finished step of `total` to `progress` at each call."""
    done = itertools.count(1)
    return lambda: None if progress is None else progress(next(done), total)


@contextlib.contextmanager
def opencv_threads(count: int) -> Iterator[None]:
    """Limit OpenCV to `count` threads inside the block; the setting applies to the whole process."""
    previous = cv2.getNumThreads()
    cv2.setNumThreads(count)
    try:
        yield
    finally:
        cv2.setNumThreads(previous)
