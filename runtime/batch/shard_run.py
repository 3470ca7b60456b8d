"""A run over an archive: the plan of its shards, kept beside their files, and what a run that was ended left to do."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from mien.runtime.batch.packed_pipeline import PackedPipeline
from mien.runtime.batch.shard_worker import BEGUN, FAILURES, PLAN, ROWS, Outcome, Shard, ShardTask
from mien.runtime.batch.storage import Folder, Picture, find_pictures
from mien.runtime.errors import InputError
from mien.runtime.values import Progress

log = logging.getLogger("mien")

DEFAULT_SHARD_SIZE = 256
"""Pictures: seconds of work, so that an ended run loses little, and files that are large enough to be few."""

Doer = Callable[[ShardTask, Sequence[Shard]], Generator[Outcome, None, None]]
"""Does shards in any order."""


@dataclass(frozen=True, slots=True)
class Run:
    """What became of a run. resumed: shards that were done before it. failures: all that was skipped, a line each."""

    shards: int
    resumed: int
    failures: tuple[str, ...]


def predict_shards(
    inputs: Sequence[str],
    packed: PackedPipeline,
    do: Doer,
    *,
    out: str,
    shard_size: int = DEFAULT_SHARD_SIZE,
    progress: Progress,
) -> Run:
    """Write the rows of pictures into the folder `out`, but for the shards that it has.

    progress: is told (shards done, shards) at first and behind each shard.

    Raises:
        InputError: nothing to do, a video, or `out` holds something else than the same run.
        MienError: what a process could not go on from.
    """
    failures: list[str] = []
    pictures = find_pictures(inputs, failures)
    shards = cut(pictures, shard_size)
    folder = Folder(out)
    task = ShardTask(packed, out, as_json(make_plan(pictures, packed, shard_size)))
    by_shard = begin(folder, task.plan, shards)
    todo = [s for s in shards if s.number not in by_shard]
    resumed = len(by_shard)
    progress(resumed, len(shards))
    if todo:
        with contextlib.closing(do(task, todo)) as outcomes:
            for outcome in outcomes:
                if outcome.error is not None:
                    raise outcome.error
                if outcome.lost:
                    log.warning("%d process(es) were lost over shard %d", outcome.lost, outcome.number)
                by_shard[outcome.number] = outcome.failures
                progress(len(by_shard), len(shards))
    failures += [line for _, lines in sorted(by_shard.items()) for line in lines]
    return Run(len(shards), resumed, tuple(failures))


def cut(pictures: Sequence[Picture], size: int) -> list[Shard]:
    """Cut pictures into shards, in their order."""
    return [Shard(n, tuple(pictures[i : i + size])) for n, i in enumerate(range(0, len(pictures), size))]


def make_plan(pictures: Sequence[Picture], packed: PackedPipeline, shard_size: int) -> dict[str, Any]:
    """What two runs must agree in for their shards to be the same."""
    listed = hashlib.sha256()
    for picture in pictures:
        listed.update(f"{picture.name}\0{picture.path}\0{picture.stamp}\n".encode(errors="surrogatepass"))
    return {
        "mien": version("mien"),
        "pictures": len(pictures),
        "pictures_sha256": listed.hexdigest(),
        "shard_size": shard_size,
        "provider": packed.provider.value,
        "max_side": packed.max_side,
        **{f"{name}_sha256": hashlib.sha256(model).hexdigest() for name, model in sorted(packed.models.items())},
    }


def as_json(plan: dict[str, Any]) -> bytes:
    """A plan as the bytes of its file."""
    return (json.dumps(plan, indent=1) + "\n").encode()


def begin(folder: Folder, plan: bytes, shards: Sequence[Shard]) -> dict[int, tuple[str, ...]]:
    """Write the plan into an empty folder, or see what is done of the same one: failures by number of shard.

    Raises:
        InputError: the folder holds another run, or anything else, or a damaged file.
    """
    names = folder.names()
    if names and PLAN not in names:
        raise InputError(f"--json wants a new folder, or one of an ended run; found {min(names)} and no {PLAN} in it")
    if not names:
        folder.make()
        folder.write(PLAN, plan)
    elif (found := folder.read(PLAN) or b"") != plan:
        raise InputError(
            f"--json names the folder of another run: {differences(found, plan)}; give the same pictures and options "
            "to go on with it, or another folder"
        )
    for name in names:
        if name.endswith(BEGUN):  # by a process of a run that was ended, not by one that was lost
            folder.remove(name)
    done = (shard for shard in shards if shard.file(ROWS) in names)
    return {s.number: _failures(folder, s) if s.file(FAILURES) in names else () for s in done}


def differences(found: bytes, wanted: bytes) -> str:
    """In what two plans differ, in words."""
    try:
        then, now = json.loads(found), json.loads(wanted)
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
            raise ValueError("no list")
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{name} of the folder of --json is damaged ({error}); remove it and {shard.file(ROWS)}, and the same "
            "command does the shard again"
        ) from error
    return tuple(map(str, lines))
