"""Several pictures at once: worker threads, and results in the order of the pictures."""

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

from mien.runtime.errors import InputError
from mien.runtime.models.runner import DEFAULT_THREADS
from mien.runtime.values import Progress

Item = TypeVar("Item")
Result = TypeVar("Result")

AHEAD = 4
"""Items a worker that may be taken before their turn: memory stays bounded, one slow picture does not stop the rest."""


@dataclass(frozen=True, slots=True)
class ThreadPlan:
    """How threads are used. workers: pictures at once. threads: of one operator of a model."""

    workers: int
    threads: int


def plan_threads(threads: int | None, *, several: bool) -> ThreadPlan:
    """Share threads out for several pictures, or for one picture or video.

    Each picture is one thread's: its models compute alike with one thread and with many, but faster, for its share of the cores.
    threads: in all; 0: all cores; None: all cores for several pictures, `DEFAULT_THREADS` else.
    """
    if several:
        return ThreadPlan(workers=threads or usable_cores(), threads=1)
    return ThreadPlan(workers=1, threads=DEFAULT_THREADS if threads is None else threads)


def usable_cores() -> int:
    """Cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def ordered_map(
    work: Callable[[Item], Result], items: Iterable[Item], *, workers: int
) -> Generator[Result, None, None]:
    """Yield `work(item)` for each item, in the items' order; one worker is the calling thread itself.

    What `work` raises is raised in its turn and ends the rest. Close the iterator to end early: what has begun is
    finished, what waits is dropped.
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
    look: Callable[[Item], Result],
    write: Callable[[Item, Result], bool],
    *,
    workers: int,
    failed: Callable[[str], None],
    tick: Callable[[], None],
) -> bool:
    """`look` at items in worker threads and `write` what it returns in the caller's, in the items' order.

    failed: is told of each InputError of `look`, which does not end the rest. tick: is called behind each item.
    False when `write` wanted no more.
    """

    def attempt(item: Item) -> Result | InputError:
        try:
            return look(item)
        except InputError as error:
            return error

    # OpenCV's own threads would come on top of the workers.
    with contextlib.ExitStack() as held:
        if workers > 1:
            held.enter_context(opencv_threads(1))
        results = held.enter_context(contextlib.closing(ordered_map(attempt, items, workers=workers)))
        for item, result in zip(items, results, strict=True):
            if isinstance(result, InputError):
                failed(str(result))
            elif not write(item, result):
                return False
            tick()
    return True


def counter(total: int, progress: Progress | None) -> Callable[[], None]:
    """Count calls of what is returned, and tell `progress` of each."""
    done = itertools.count(1)
    return lambda: None if progress is None else progress(next(done), total)


@contextlib.contextmanager
def opencv_threads(count: int) -> Iterator[None]:
    """Let OpenCV use so many threads within; it has one setting for the whole process."""
    usual = cv2.getNumThreads()
    cv2.setNumThreads(count)
    try:
        yield
    finally:
        cv2.setNumThreads(usual)
