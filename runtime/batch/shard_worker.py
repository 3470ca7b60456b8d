"""Processes the shards of an archive in one process of `mien predict --ray`, independently of Ray.

A shard is a sequence of pictures; its rows go into one file such as ``00000012.jsonl``. Pictures that could not be read
are listed in ``00000012.failures.json``, which is written first, so a shard with a file of rows is complete.
"""

from __future__ import annotations

import contextlib
import json
import platform
from dataclasses import dataclass
from functools import cached_property

import cv2

from ..errors import InputError, MienError, OutputError
from ..output.rows import row_line
from ..pictures.decode import decode_frames
from ..pipeline.pipeline import Pipeline
from .packed_pipeline import PackedPipeline, open_packed_pipeline
from .parallel import ordered_map
from .predict import predict_picture
from .storage import Folder, Picture, read_picture

PLAN = "plan.json"
ROWS = ".jsonl"
FAILURES = ".failures.json"
BEGUN = ".begun"

READERS = 4
"""Pictures fetched ahead in parallel, because object storage has a high latency."""
ATTEMPTS = 3
"""Processes that may crash on a shard before it is skipped, so that one picture cannot end the run."""


@dataclass(frozen=True, slots=True)
class ShardTask:
    """Settings that all processes of a run share.

    Attributes:
        packed: Models and options.
        out: Folder of the results, as path or URI.
        plan: Expected content of the ``plan.json`` in that folder.
    """

    packed: PackedPipeline
    out: str
    plan: bytes


@dataclass(frozen=True, slots=True)
class Shard:
    """Pictures whose rows go into one file.

    Attributes:
        number: Position in the run, from 0.
        pictures: Pictures, in the order of the rows.
    """

    number: int
    pictures: tuple[Picture, ...]

    def file(self, kind: str) -> str:
        """Return the file name with suffix `kind`; file names sort in the order of the shards."""
        return f"{self.number:08d}{kind}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """Result of a shard.

    Attributes:
        number: Number of the shard.
        failures: One message per picture that was skipped.
        error: Error that must end the run.
        lost: Processes that were lost while they processed the shard.
    """

    number: int
    failures: tuple[str, ...] = ()
    error: MienError | None = None
    lost: int = 0


class ShardWorker:
    """Processor of shards, which opens the models on the first call.

    Args:
        task: Models, output folder and plan.
    """

    def __init__(self, task: ShardTask) -> None:
        self._task = task

    def __call__(self, shard: Shard) -> Outcome:
        """Find the faces in the pictures of a shard and write its files; errors are returned in the outcome."""
        try:
            lost = self._begin(shard)
            failures = [_given_up(shard)] if lost == ATTEMPTS else self._process(shard)
        except MienError as error:
            return Outcome(shard.number, error=error)
        return Outcome(shard.number, tuple(failures), lost=lost)

    @cached_property
    def _out(self) -> Folder:
        """Folder of the results, after checking that it is the one that the run was started with."""
        out = Folder(self._task.out)
        if out.read(PLAN) != self._task.plan:
            raise OutputError(
                f"{self._task.out} on {platform.node()} is not the folder that the run was started with; give --json "
                "a folder that all machines share, or a URI such as s3://bucket/rows"
            )
        return out

    @cached_property
    def _pipeline(self) -> Pipeline:
        cv2.setNumThreads(1)  # there is one process per core
        return open_packed_pipeline(self._task.packed)

    def _begin(self, shard: Shard) -> int:
        """Record that a process started the shard, and return how many were lost in it before."""
        lost = len(self._out.read(shard.file(BEGUN)) or b"")
        if lost < ATTEMPTS:
            self._out.write(shard.file(BEGUN), b"." * (lost + 1))
        return lost

    def _process(self, shard: Shard) -> list[str]:
        rows: list[str] = []
        failures: list[str] = []
        read = 0
        with contextlib.closing(ordered_map(_attempt, shard.pictures, workers=READERS)) as contents:
            for picture, content in zip(shard.pictures, contents, strict=True):
                try:
                    if isinstance(content, InputError):
                        raise content
                    read += 1
                    for frame in decode_frames(content, name=picture.name):
                        rows.append(row_line(predict_picture(self._pipeline, frame, name=picture.name).row))
                except InputError as error:
                    failures.append(str(error))
        if not read:
            return [_unread(shard, failures[0])]
        self._write(shard, rows, failures)
        return failures

    def _write(self, shard: Shard, rows: list[str], failures: list[str]) -> None:
        if failures:
            self._out.write(shard.file(FAILURES), json.dumps(failures, indent=1).encode())
        else:
            self._out.remove(shard.file(FAILURES))  # left by a process that was lost before it wrote the rows
        self._out.write(shard.file(ROWS), "".join(rows).encode())
        self._out.remove(shard.file(BEGUN))


def _attempt(picture: Picture) -> bytes | InputError:
    try:
        return read_picture(picture)
    except InputError as error:
        return error


def _unread(shard: Shard, failure: str) -> str:
    """Report a shard left undone, as an unreadable folder is more likely than only unreadable pictures."""
    return (
        f"shard {shard.number}: {platform.node()} could read none of its pictures ({failure}); give a folder that "
        "all machines share under the same path, or a URI, and run the command again"
    )


def _given_up(shard: Shard) -> str:
    first, last = shard.pictures[0].name, shard.pictures[-1].name
    return (
        f"shard {shard.number}, {first} to {last}: lost {ATTEMPTS} processes; run predict without --ray to find "
        "the picture, or the same command to retry"
    )
