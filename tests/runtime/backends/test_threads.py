"""What docs/embedding.md promises of threads, with real ones on the shipped models."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from mien.runtime.backends.ort.onnx_runner import OnnxRunner
from mien.runtime.capture.demo_camera import DemoCamera
from mien.runtime.errors import InputError, MienError
from mien.runtime.models.runner import Provider
from mien.runtime.models.shipped import shipped_model
from mien.runtime.pipeline.pipeline import Pipeline
from mien.runtime.values import Faces, Frame, Image
from mien.tests.processes import wait_for

WORKERS = 4


@pytest.fixture(scope="module")
def pictures() -> list[Image]:
    """Views of the demo camera, none like another."""
    camera = DemoCamera(size=(320, 240))
    return [camera.frame(i * 20) for i in range(12)]


def same(a: Faces, b: Faces) -> bool:
    fields = ("boxes", "scores", "landmarks", "presence", "age", "female")
    return all(np.allclose(getattr(a, f), getattr(b, f), atol=1e-3, equal_nan=True) for f in fields)


def test_threads_share_a_runner(pictures: list[Image]) -> None:
    with OnnxRunner(shipped_model("landmarks"), provider=Provider.CPU, threads=1) as runner:
        batches = [np.stack([p[i : i + 112, i : i + 112] for i in range(n % 3 + 1)]) for n, p in enumerate(pictures)]
        alone = [runner(batch) for batch in batches]
        with ThreadPoolExecutor(WORKERS) as pool:
            together = list(pool.map(runner, batches * 3))
    for n, outputs in enumerate(together):
        for name, values in alone[n % len(batches)].items():
            np.testing.assert_allclose(outputs[name], values, atol=1e-5)


def test_threads_share_a_pipeline(pictures: list[Image]) -> None:
    with Pipeline.load(provider=Provider.CPU, threads=1) as pipeline:
        alone = [pipeline(picture) for picture in pictures]
        assert sum(map(len, alone)) >= len(pictures) - 2
        assert not same(alone[0], alone[1])
        with ThreadPoolExecutor(WORKERS) as pool:
            together = list(pool.map(pipeline, pictures * 2))
    assert all(same(faces, alone[n % len(pictures)]) for n, faces in enumerate(together))


def test_each_track_has_a_state_of_its_own() -> None:
    camera = DemoCamera(size=(320, 240))

    def frames(first: int) -> list[Frame]:
        return [Frame(camera.frame(first + i), timestamp_ns=i * 33_000_000, index=i) for i in range(12)]

    with Pipeline.load(attributes=False, provider=Provider.CPU, threads=1) as pipeline:

        def follow(first: int) -> list[Faces]:
            return [faces for _, faces in pipeline.track(frames(first), detect_every=4)]

        starts = [0, 100, 200]
        alone = [follow(first) for first in starts]
        with ThreadPoolExecutor(len(starts)) as pool:
            together = list(pool.map(follow, starts))
    for a, b in zip(alone, together, strict=True):
        assert all(same(x, y) and x.track_id.tolist() == y.track_id.tolist() for x, y in zip(a, b, strict=True))
        assert a[0].track_id.tolist() == [0]  # ids are counted anew by each track


def test_close_lets_calls_under_way_end_well(pictures: list[Image]) -> None:
    """Threads call as fast as they can while another closes: results until then, MienError after, nothing else."""
    for _ in range(5):
        runner = OnnxRunner(shipped_model("landmarks"), provider=Provider.CPU, threads=1)
        batch, done, others = pictures[0][None, :112, :112], [], []
        running = threading.Barrier(WORKERS + 1)

        def call(
            runner: OnnxRunner = runner,
            batch: Image = batch,
            running: threading.Barrier = running,
            done: list[int] = done,
            others: list[BaseException] = others,
        ) -> None:
            running.wait()
            try:
                while True:
                    runner(batch)
                    done.append(1)
            except MienError:
                pass
            except BaseException as error:  # noqa: BLE001 - it is what the test looks for
                others.append(error)

        threads = [threading.Thread(target=call) for _ in range(WORKERS)]
        for thread in threads:
            thread.start()
        running.wait()
        wait_for(lambda done=done, others=others: len(done) >= WORKERS or others)
        runner.close()
        runner.close()
        for thread in threads:
            thread.join(20)
        assert others == [] and not any(thread.is_alive() for thread in threads)


def test_closing_in_the_middle_of_a_call(pictures: list[Image]) -> None:
    """The narrowest case of the above, without luck: closed between the check and the run."""
    runner = OnnxRunner(shipped_model("landmarks"), provider=Provider.CPU, threads=1)

    class Closing(np.ndarray):
        @property
        def ndim(self) -> int:
            runner.close()
            return 4

    assert runner(pictures[0][None, :112, :112].view(Closing))["landmarks"].shape == (1, 68, 3)


class Gate:
    """A model in whose call the caller waits; `inside` is set when it does, `go_on` lets it through."""

    def __init__(self, model: OnnxRunner) -> None:
        self._model = model
        self.spec, self.provider, self.precision, self.close = model.spec, model.provider, model.precision, model.close
        self.inside, self.go_on = threading.Event(), threading.Event()

    def __call__(self, batch: Image) -> dict[str, np.ndarray]:
        self.inside.set()
        assert self.go_on.wait(20)
        return self._model(batch)


@pytest.fixture
def gated() -> Iterator[tuple[Pipeline, Gate]]:
    """A pipeline that waits at its landmark model, which the detector comes before and the attributes behind."""
    pipeline = Pipeline.load(provider=Provider.CPU, threads=1)
    gate = Gate(pipeline.landmarks)
    pipeline.landmarks = gate
    yield pipeline, gate
    pipeline.close()


@pytest.mark.parametrize("tracking", [False, True])
def test_closing_a_pipeline_lets_its_calls_end_well(
    tracking: bool, gated: tuple[Pipeline, Gate], pictures: list[Image]
) -> None:
    pipeline, gate = gated
    frames = (Frame(picture, timestamp_ns=i * 33_000_000, index=i) for i, picture in enumerate(pictures))
    results = pipeline.track(frames, detect_every=1)

    def call() -> Faces:
        return next(results)[1] if tracking else pipeline(pictures[0])

    with ThreadPoolExecutor(1) as pool:
        under_way = pool.submit(call)
        assert gate.inside.wait(20)
        pipeline.close()  # waits for nobody
        with pytest.raises(InputError, match="the pipeline is closed"):
            pipeline(pictures[1])
        pipeline.close()
        assert pipeline.age_gender.session is not None  # the call still needs it
        gate.go_on.set()
        assert np.isfinite(under_way.result(20).age).all()
    assert pipeline.age_gender.session is None
    with pytest.raises(InputError, match="the pipeline is closed"):
        call()


def test_every_model_is_closed_though_one_fails_to(monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = Pipeline.load(provider=Provider.CPU, threads=1)

    def fail() -> None:
        raise RuntimeError("no")

    for model in (pipeline.detector, pipeline.age_gender):
        monkeypatch.setattr(model, "close", fail)
    with pytest.raises(RuntimeError):
        pipeline.close()
    assert pipeline.landmarks.session is None


def test_a_closed_pipeline_says_so(pictures: list[Image]) -> None:
    pipeline = Pipeline.load(provider=Provider.CPU)
    with pipeline:
        pass
    pipeline.close()
    with pytest.raises(InputError, match="closed"):
        pipeline(pictures[0])
    with pytest.raises(MienError):
        OnnxRunner(Path("none.onnx"))
