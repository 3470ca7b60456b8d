"""The rows of an archive, shard by shard: what one process does of `mien predict --ray`. Nothing here knows of Ray.

A shard is a run of pictures and, once it is done, a file of rows: ``00000012.jsonl``. What could not be read stands
beside it, in ``00000012.failures.json``, and is written first: where the rows are, the shard is done and all is told.
"""

from __future__ import annotations

import contextlib
import json
import platform
from dataclasses import dataclass
from functools import cached_property

import cv2

from mien.runtime.batch.packed_pipeline import PackedPipeline, open_packed_pipeline
from mien.runtime.batch.parallel import ordered_map
from mien.runtime.batch.predict import predict_picture
from mien.runtime.batch.storage import Folder, Picture, read_picture
from mien.runtime.errors import InputError, MienError, OutputError
from mien.runtime.faces.pipeline import Pipeline
from mien.runtime.images import decode_image
from mien.runtime.output.rows import row_line

PLAN = "plan.json"
ROWS = ".jsonl"
FAILURES = ".failures.json"
BEGUN = ".begun"

READERS = 4
"""Pictures that are fetched at once while another is looked at: object storage answers late."""
ATTEMPTS = 3
"""Processes that a shard may cost before it is given up: one picture must not end an archive's run."""


@dataclass(frozen=True, slots=True)
class ShardTask:
    """What every process is given. out: folder of the results. plan: what must stand in its ``plan.json``."""

    packed: PackedPipeline
    out: str
    plan: bytes


@dataclass(frozen=True, slots=True)
class Shard:
    """Pictures whose rows go into one file."""

    number: int
    pictures: tuple[Picture, ...]

    def file(self, kind: str) -> str:
        """Name of one of its files; the order of the names is the order of the rows."""
        return f"{self.number:08d}{kind}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a shard.

    failures: what was skipped, a line each. error: what must end the run. lost: processes that were lost over it.
    """

    number: int
    failures: tuple[str, ...] = ()
    error: MienError | None = None
    lost: int = 0


class ShardWorker:
    """Does shards, one after the other, with models that it opens once, behind the first call."""

    def __init__(self, task: ShardTask) -> None:
        self._task = task

    def __call__(self, shard: Shard) -> Outcome:
        """Find the faces of a shard's pictures and write its files."""
        try:
            lost = self._begin(shard)
            failures = [_given_up(shard)] if lost == ATTEMPTS else self._do(shard)
        except MienError as error:
            return Outcome(shard.number, error=error)
        return Outcome(shard.number, tuple(failures), lost=lost)

    @cached_property
    def _out(self) -> Folder:
        """The folder of the results, once it is sure that it is the one that all others write into."""
        out = Folder(self._task.out)
        if out.read(PLAN) != self._task.plan:
            raise OutputError(
                f"{self._task.out} of {platform.node()} is not the folder that the run was started with; --json wants "
                "a folder that all machines share, or a URI such as s3://bucket/rows"
            )
        return out

    @cached_property
    def _pipeline(self) -> Pipeline:
        cv2.setNumThreads(1)  # as many processes as cores
        return open_packed_pipeline(self._task.packed)

    def _begin(self, shard: Shard) -> int:
        """Note that a process took the shard up; how many did before, and were not heard of again."""
        lost = len(self._out.read(shard.file(BEGUN)) or b"")
        if lost < ATTEMPTS:
            self._out.write(shard.file(BEGUN), b"." * (lost + 1))
        return lost

    def _do(self, shard: Shard) -> list[str]:
        rows: list[str] = []
        failures: list[str] = []
        read = 0
        with contextlib.closing(ordered_map(_attempt, shard.pictures, workers=READERS)) as contents:
            for picture, content in zip(shard.pictures, contents, strict=True):
                try:
                    if isinstance(content, InputError):
                        raise content
                    read += 1
                    pixels = decode_image(content, name=picture.name)
                    rows.append(row_line(predict_picture(self._pipeline, pixels, name=picture.name).row))
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
            self._out.remove(shard.file(FAILURES))  # of a process that was lost before its rows were written
        self._out.write(shard.file(ROWS), "".join(rows).encode())
        self._out.remove(shard.file(BEGUN))


def _attempt(picture: Picture) -> bytes | InputError:
    try:
        return read_picture(picture)
    except InputError as error:
        return error


def _unread(shard: Shard, failure: str) -> str:
    """More likely this machine's fault than the pictures': such a shard is not done."""
    return (
        f"shard {shard.number}: {platform.node()} could read none of its {len(shard.pictures)} pictures ({failure}); "
        "wanted a folder that all machines share under the same path, or a URI; the same command tries it again"
    )


def _given_up(shard: Shard) -> str:
    first, last = shard.pictures[0].name, shard.pictures[-1].name
    return (
        f"shard {shard.number}, {first} to {last}: it ended {ATTEMPTS} processes; predict without --ray tells over "
        "which picture, the same command tries it again"
    )
