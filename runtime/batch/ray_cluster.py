"""Processes shards on a Ray cluster, in Ray Data actors that each open a pipeline.

The only module that imports Ray; call `configure_ray` before importing it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import socket
from collections.abc import Generator, Iterator, Sequence
from typing import Any, cast

import ray
import ray.data
from ray.exceptions import RayError, RayTaskError

from ..errors import InputError, ProcessFailed, ProviderError
from ..models.runner import Provider
from .parallel import usable_cores
from .shard_worker import Outcome, Shard, ShardTask, ShardWorker


def process_on_ray(
    task: ShardTask, shards: Sequence[Shard], *, address: str, actors: int
) -> Generator[Outcome, None, None]:
    """Process shards on a cluster; a shard whose process or machine is lost is retried on another.

    Args:
        task: Models, output folder and plan.
        shards: Shards to process.
        address: ``local`` to start a cluster that ends with the generator; ``auto`` or HOST:PORT for a running one.
        actors: Number of processes, each with one CPU and, unless the models run on the CPU, one GPU; 0 for as many as
            the cluster has.

    Yields:
        Outcomes, in any order.

    Raises:
        InputError: There is no cluster at `address`.
        ProviderError: The cluster has no GPU, or no CPU.
        ProcessFailed: Ray gave up.
    """
    try:
        with _cluster(address, cpus=actors or usable_cores()):
            yield from _process(task, shards, actors=actors or _whole_cluster(task.packed.provider))
    except RayTaskError:
        raise  # a bug in mien: keep the traceback of the process
    except RayError as error:
        last = str(error).strip().rpartition("\n")[2]
        raise ProcessFailed(
            f"Ray gave up ({last}); run the same command again to process the remaining shards"
        ) from error


@contextlib.contextmanager
def _cluster(address: str, *, cpus: int) -> Iterator[None]:
    _check_address(address)
    local: dict[str, Any] = {"num_cpus": cpus, "include_dashboard": False} if address == "local" else {}
    try:
        with _no_stderr():
            ray.init(address, logging_level=logging.CRITICAL, log_to_driver=False, **local)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise _no_cluster(address, str(error).strip().partition("\n")[0]) from error
    # Ray prints notices on standard output, which is for results; outcomes report lost processes.
    with open(os.devnull, "w") as nothing, contextlib.redirect_stdout(nothing):  # noqa: PTH123 - a device
        try:
            yield
        finally:
            ray.shutdown()


def _check_address(address: str) -> None:
    """Fail early on addresses for which Ray fails after two minutes or without a reason."""
    if address.startswith("ray://"):
        raise InputError(
            f"Ray Data does not work through {address}; run this on a machine of the cluster, with --ray auto"
        )
    host, colon, port = address.rpartition(":")
    if colon:
        try:
            socket.create_connection((host, int(port)), timeout=5).close()
        except (OSError, ValueError, OverflowError) as error:
            raise _no_cluster(address, str(error)) from error


def _no_cluster(address: str, why: str) -> InputError:
    return InputError(f"no Ray cluster at {address} ({why}); start one with ray start --head, or use --ray local")


@contextlib.contextmanager
def _no_stderr() -> Iterator[None]:
    """Silence standard error while Ray's C++ part starts; errors are raised as exceptions."""
    saved = os.dup(2)
    try:
        with open(os.devnull, "w") as nothing:  # noqa: PTH123 - a device
            os.dup2(nothing.fileno(), 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)


def _whole_cluster(provider: Provider) -> int:
    kind = "CPU" if provider is Provider.CPU else "GPU"
    count = int(ray.cluster_resources().get(kind, 0))  # type: ignore[no-untyped-call]
    if not count:
        raise ProviderError(f"the Ray cluster has no {kind}; if it adds them on demand, give the number with --threads")
    return count


def _process(task: ShardTask, shards: Sequence[Shard], *, actors: int) -> Iterator[Outcome]:
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_no_progress_timeout_s = -1  # a shard may take arbitrarily long
    most = min(actors, len(shards))
    todo = ray.data.from_items([{"shard": pickle.dumps(s)} for s in shards], override_num_blocks=len(shards))
    done = todo.map(
        cast(Any, Actor),  # classes are allowed, but the annotation names functions only
        fn_constructor_args=[task],
        num_cpus=1,
        num_gpus=None if task.packed.provider is Provider.CPU else 1,
        compute=ray.data.ActorPoolStrategy(
            min_size=1, max_size=most, initial_size=most, max_tasks_in_flight_per_actor=1
        ),
    )
    for row in done.iter_rows():
        yield pickle.loads(row["outcome"])


class Actor:
    """Process of the cluster that processes shards."""

    def __init__(self, task: ShardTask) -> None:
        self._worker = ShardWorker(task)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Process the pickled shard of a row."""
        return {"outcome": pickle.dumps(self._worker(pickle.loads(row["shard"])))}
