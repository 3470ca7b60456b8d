"""Cost of viewers of the live page: ``python -m mien.bench.studies.serve_load CLIP.mp4 [--clients 20] [--rounds 20]``.

A run tracks the faces of a looping clip with a live page. In alternating turns of a second, either nobody or many
clients watch: most read the stream, every fifth the rows, and one requests the stream and reads nothing. The clients
run in a separate process but on the same cores, so their own cost is included, as it would not be over a network.
``--rate 30`` delivers frames like a camera; without it, inference runs as fast as it can and every core counts.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

import numpy as np

from ...runtime.capture.capture import Capture
from ...runtime.capture.open_capture import open_capture
from ...runtime.capture.sources import OpenedSource, RawFrame, SourceInfo, as_live
from ...runtime.errors import InputError
from ...runtime.live.listen_socket import open_listen_socket
from ...runtime.live.live_run import LiveRun
from ...runtime.live.page_server import STREAM_HZ, LivePage
from ...runtime.models.runner import DEFAULT_THREADS, Provider
from ...runtime.pipeline.pipeline import Pipeline
from ...runtime.stage_timer import StageTimer
from ...runtime.tracking.smoothing import OneEuro
from ...runtime.values import Faces, Frame, Image
from ..timing.speedup import MIN_ROUNDS, median_ratio

SETTLE_S = 0.4
"""Seconds to wait after clients connect or disconnect, before measuring."""
TURN_S = 1.0


class Loop:
    """Source that repeats the same frames forever."""

    def __init__(self, frames: Sequence[Image], rate: float) -> None:
        self._frames, self._rate, self._next = frames, rate, 0

    def read(self) -> RawFrame | None:
        """See `Source`."""
        index = self._next
        self._next += 1
        return self._frames[index % len(self._frames)], round(index * 1e9 / self._rate)

    def close(self) -> None:
        """See `Source`."""


class Counter:
    """Sink that counts frames, and stops the run once `done` is set."""

    needs_picture = False

    def __init__(self) -> None:
        self.frames = 0
        self.done = False

    def write(self, frame: Frame, faces: Faces, picture: Image) -> bool:
        """Count a frame."""
        self.frames += 1
        return not self.done

    def close(self) -> None:
        """Nothing is open."""


@dataclass(frozen=True, slots=True)
class Turn:
    """Measurements of one turn.

    Attributes:
        watched: Whether clients were watching.
        seconds: Length of the turn.
        frames: Number of processed frames.
        cpu_ms: CPU time of this process, all threads.
        resident_mb: Memory of this process, NaN if unknown.
    """

    watched: bool
    seconds: float
    frames: int
    cpu_ms: float
    resident_mb: float


def read_clip(clip: Path) -> list[Image]:
    """Read all frames of a clip, forwards and then backwards, so that the loop has no jump.

    Raises:
        InputError: The clip cannot be read.
    """
    with open_capture(clip) as capture:
        frames = [frame.pixels for frame in capture]
    return frames + frames[::-1]


async def be_clients(port: int, count: int) -> None:
    """Connect or disconnect on each line of standard input; print how much was read in between."""

    async def read(number: int) -> int:
        path = "/faces" if number % 5 == 4 else "/stream.mjpg"
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        got = 0
        try:
            while chunk := await reader.read(1 << 16):
                got += len(chunk)
        except asyncio.CancelledError:
            return got
        finally:
            writer.close()
        raise SystemExit(f"client {number} was disconnected")

    loop = asyncio.get_running_loop()
    while await loop.run_in_executor(None, sys.stdin.readline):
        with socket.create_connection(("127.0.0.1", port)) as stuck:
            stuck.sendall(b"GET /stream.mjpg HTTP/1.1\r\nHost: localhost\r\n\r\n")
            reading = [asyncio.create_task(read(number)) for number in range(count - 1)]
            await asyncio.sleep(SETTLE_S / 2)
            cpu, start = time.process_time(), time.perf_counter()
            print("watching", flush=True)
            await loop.run_in_executor(None, sys.stdin.readline)
            cpu_share = (time.process_time() - cpu) / (time.perf_counter() - start)
            for task in reading:
                task.cancel()
            got = await asyncio.gather(*reading)
        print(json.dumps({"read_mb": sum(got) / 1e6, "cpu_ms_per_s": cpu_share * 1e3}), flush=True)


def take_turns(
    counter: Counter, crowd: subprocess.Popen[str], rounds: int
) -> tuple[list[Turn], list[dict[str, float]]]:
    """Measure without and with clients in the order no, yes, yes, no, so that drift affects both alike."""
    turns, reports = [], []
    for number in range(rounds):
        for watched in (False, True, True, False):
            if watched:
                signal_clients(crowd)
            time.sleep(SETTLE_S)
            frames, cpu, start = counter.frames, time.process_time(), time.perf_counter()
            time.sleep(TURN_S)
            seconds = time.perf_counter() - start
            cpu_ms = (time.process_time() - cpu) * 1e3
            turns.append(Turn(watched, seconds, counter.frames - frames, cpu_ms, resident_mb()))
            if watched:
                reports.append(json.loads(signal_clients(crowd)))
        print(f"round {number + 1}: {[round(t.frames / t.seconds, 1) for t in turns[-4:]]} fps", file=sys.stderr)
    return turns, reports


def signal_clients(crowd: subprocess.Popen[str]) -> str:
    """Make the clients connect or disconnect, and return the line that they print."""
    to, back = crowd.stdin, crowd.stdout
    assert to is not None and back is not None
    _line(to)
    return back.readline()


def _line(to: IO[str]) -> None:
    to.write("\n")
    to.flush()


def measure(pipeline: Pipeline, frames: Sequence[Image], options: argparse.Namespace) -> dict[str, object]:
    """Run the pipeline with and without clients; return the results as a row."""
    stages, counter = StageTimer(), Counter()
    rate = options.rate or 1000.0
    found: list[tuple[list[Turn], list[dict[str, float]]]] = []

    def open_source() -> OpenedSource:
        opened = OpenedSource(Loop(frames, rate), SourceInfo(name="loop", live=False, fps=rate))
        return as_live(opened, clock=time.monotonic_ns) if options.rate else opened

    with open_listen_socket("127.0.0.1:0") as listen_socket, Capture(open_source, reconnect=False) as capture:
        page = LivePage(listen_socket, capture, stages, provider=pipeline.provider)
        track = partial(pipeline.track, smoothing=OneEuro())
        run = LiveRun(capture, track, [page, counter], provider=pipeline.provider, timer=stages)
        command = [sys.executable, "-m", "mien.bench.studies.serve_load", "--port", str(listen_socket.port)]
        command += ["--clients", str(options.clients)]

        def turns() -> None:
            with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as crowd:
                try:
                    found.append(take_turns(counter, crowd, options.rounds))
                finally:
                    counter.done = True

        thread = threading.Thread(target=turns, name="turns")
        thread.start()
        with contextlib.ExitStack() as last:
            last.callback(thread.join)
            summary = run.run()
    if not found:
        raise SystemExit("the clients failed; see above")
    (all_turns, reports), count = found[0], options.rounds
    per_frame = np.array([t.seconds / max(t.frames, 1) for t in all_turns]).reshape(count, 4)
    alone, watched = per_frame[:, [0, 3]].mean(axis=1), per_frame[:, [1, 2]].mean(axis=1)
    memory = [t.resident_mb for t in all_turns]
    return {
        "clients": options.clients,
        "stream_hz": STREAM_HZ,
        "rounds": count,
        "rate": options.rate,
        "provider": summary.provider,
        "threads": options.threads,
        "fps_alone": round(float(np.median(1 / alone)), 2),
        "fps_watched": round(float(np.median(1 / watched)), 2),
        "watched_over_alone": str(median_ratio([np.log(alone) - np.log(watched)])),
        "cpu_ms_per_s_alone": round(float(np.median([t.cpu_ms / t.seconds for t in all_turns if not t.watched]))),
        "cpu_ms_per_s_watched": round(float(np.median([t.cpu_ms / t.seconds for t in all_turns if t.watched]))),
        "cpu_ms_per_s_of_clients": round(float(np.median([t["cpu_ms_per_s"] for t in reports]))),
        "read_mb_a_turn": round(float(np.median([t["read_mb"] for t in reports])), 2),
        "processed": summary.processed,
        "resident_mb": [round(float(np.median(part)), 1) for part in (memory[4:12], memory[-8:])],
    }


def resident_mb() -> float:
    """Return the resident memory of this process in MB, NaN if unknown."""
    with contextlib.suppress(OSError):
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * 4096 / 1e6
    return float("nan")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print one JSON row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", type=Path, nargs="?")
    parser.add_argument("--clients", type=int, default=20, help="number of clients, one of which reads nothing")
    parser.add_argument("--rounds", type=int, default=20, help="of four turns: unwatched, watched twice, unwatched")
    parser.add_argument("--rate", type=float, help="frames per second, like a camera; default: as fast as possible")
    parser.add_argument("--threads", type=int, default=DEFAULT_THREADS, help="threads per operator; 0: all cores")
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.port is not None:
        asyncio.run(be_clients(options.port, options.clients))
        return
    if options.clip is None or options.rounds < MIN_ROUNDS:
        parser.error(f"expected a clip and at least {MIN_ROUNDS} rounds")
    try:
        frames = read_clip(options.clip)
    except InputError as error:
        parser.error(str(error))
    with Pipeline.load(provider=Provider.CPU, threads=options.threads) as pipeline:
        print(json.dumps(measure(pipeline, frames, options), indent=2))


if __name__ == "__main__":
    main()
