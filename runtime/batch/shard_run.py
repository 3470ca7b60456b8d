"""Processes an archive in shards, and resumes an interrupted run from the plan stored with its results."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
from collections.abc import Callable, Generator, Sequence
from dataclasses import asdict, dataclass

from ... import __version__
from ..errors import InputError
from ..values import Progress
from ..wording import counted
from .packed_pipeline import PackedPipeline
from .shard_worker import BEGUN, FAILURES, PLAN, ROWS, Outcome, Shard, ShardTask
from .storage import Folder, Picture, find_pictures, is_uri

log = logging.getLogger("mien")

DEFAULT_SHARD_SIZE = 256
"""Pictures per shard: seconds of work, so an interrupted run loses little, yet few files."""

ProcessShards = Callable[[ShardTask, Sequence[Shard]], Generator[Outcome, None, None]]
"""Processes shards and yields their outcomes in any order."""


@dataclass(frozen=True, slots=True)
class Run:
    """Result of a run.

    Attributes:
        shards: Total number of shards.
        resumed: Shards that an earlier run had finished.
        failures: One message per input that was skipped.
    """

    shards: int
    resumed: int
    failures: tuple[str, ...]


def predict_shards(
    inputs: Sequence[str],
    packed: PackedPipeline,
    process: ProcessShards,
    *,
    out: str,
    shard_size: int = DEFAULT_SHARD_SIZE,
    progress: Progress,
) -> Run:
    """Write the rows of pictures into a folder, skipping the shards that it already holds.

    Args:
        inputs: Pictures and folders, as paths or URIs.
        packed: Models and options.
        process: Processes the remaining shards.
        out: Folder for the results, as path or URI; empty, new, or that of an interrupted run.
        shard_size: Pictures per shard.
        progress: Called with (shards done, shards in total) at the start and after each shard.

    Raises:
        InputError: An input is a video, or `out` holds anything but an earlier part of this run.
        MienError: A process met an error that ends the run.
    """
    failures: list[str] = []
    pictures = find_pictures(inputs, failures)
    shards = split(pictures, shard_size)
    if not is_uri(out):
        out = os.path.abspath(out)  # noqa: PTH100 - a process of the cluster has another working directory
    folder = Folder(out)
    task = ShardTask(packed, out, make_plan(pictures, packed, shard_size))
    by_shard = begin(folder, task.plan, shards)
    todo = [s for s in shards if s.number not in by_shard]
    resumed = len(by_shard)
    progress(resumed, len(shards))
    if todo:
        with contextlib.closing(process(task, todo)) as outcomes:
            for outcome in outcomes:
                if outcome.error is not None:
                    raise outcome.error
                if outcome.lost:
                    log.warning(
                        "shard %d: lost %s before it was done",
                        outcome.number,
                        counted(outcome.lost, "process", "processes"),
                    )
                by_shard[outcome.number] = outcome.failures
                progress(len(by_shard), len(shards))
    folder.remove_temporary_files()
    failures += [line for _, lines in sorted(by_shard.items()) for line in lines]
    return Run(len(shards), resumed, tuple(failures))


def split(pictures: Sequence[Picture], size: int) -> list[Shard]:
    """Split pictures into shards of `size`, in order."""
    return [Shard(n, tuple(pictures[i : i + size])) for n, i in enumerate(range(0, len(pictures), size))]


def make_plan(pictures: Sequence[Picture], packed: PackedPipeline, shard_size: int) -> bytes:
    """Describe a run, as JSON, by everything that must be equal for another to resume it.

    Args:
        pictures: All pictures, in order.
        packed: Models and options.
        shard_size: Pictures per shard.
    """
    listed = hashlib.sha256()
    for picture in pictures:
        listed.update(f"{picture.name}\0{picture.path}\0{picture.stamp}\n".encode(errors="surrogatepass"))
    plan = {
        "mien": __version__,
        "pictures": len(pictures),
        "pictures_sha256": listed.hexdigest(),
        "shard_size": shard_size,
        "provider": packed.provider.value,
        "max_side": packed.max_side,
        **asdict(packed.reported),
        **{f"{name}_sha256": hashlib.sha256(model).hexdigest() for name, model in sorted(packed.models.items())},
    }
    return (json.dumps(plan, indent=1) + "\n").encode()


def begin(folder: Folder, plan: bytes, shards: Sequence[Shard]) -> dict[int, tuple[str, ...]]:
    """Start a run in an empty folder, or find the finished shards of the same run.

    Args:
        folder: Folder of the results.
        plan: Content of the plan file.
        shards: All shards of the run.

    Returns:
        The failures of each finished shard, by its number.

    Raises:
        InputError: The folder holds another run, other files, or a damaged file.
    """
    names = folder.names()
    if names and PLAN not in names:
        raise InputError(
            f"--json: expected a new folder or that of an interrupted run, found {min(names)} and no {PLAN} in it"
        )
    if not names:
        folder.make()
        folder.write(PLAN, plan)
    elif (found := folder.read(PLAN) or b"") != plan:
        raise InputError(
            f"--json names the folder of another run ({differences(found, plan)}); give the same pictures and options "
            "to resume it, or another folder"
        )
    for name in names:
        if name.endswith(BEGUN):  # left by an interrupted run, whose processes are not counted as lost
            folder.remove(name)
    done = (shard for shard in shards if shard.file(ROWS) in names)
    return {s.number: _failures(folder, s) if s.file(FAILURES) in names else () for s in done}


def differences(found: bytes, expected: bytes) -> str:
    """Describe in words how two plans differ."""
    try:
        then, now = json.loads(found), json.loads(expected)
    except ValueError:
        return f"its {PLAN} is damaged"
    keys = [key for key in {**then, **now} if then.get(key) != now.get(key)]
    return ", ".join(f"{key} {_short(then.get(key))}, now {_short(now.get(key))}" for key in keys)


def _short(value: object) -> str:
    return "none" if value is None else str(value)[:12]


def _failures(folder: Folder, shard: Shard) -> tuple[str, ...]:
    name = shard.file(FAILURES)
    try:
        lines = json.loads(folder.read(name) or b"[]")
        if not isinstance(lines, list):
            raise ValueError("not a list")
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{name} in the --json folder is damaged ({error}); remove it and {shard.file(ROWS)}, then run the same "
            "command again to redo the shard"
        ) from error
    return tuple(map(str, lines))
