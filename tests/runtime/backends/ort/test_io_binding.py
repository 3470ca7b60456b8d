"""Bound buffers give what a plain call gives. On the CPU they are bound as they are on a GPU."""

from __future__ import annotations

import time

import numpy as np
import pytest

from mien.runtime.backends.ort.io_binding import MAX_SHAPES, BoundSession
from mien.runtime.backends.ort.onnx_session import open_session, placement
from mien.runtime.errors import ModelError, ProviderError
from mien.runtime.models.runner import Provider
from mien.runtime.models.shipped import shipped_model


@pytest.fixture(scope="module")
def session():
    return open_session(shipped_model("landmarks"), provider=Provider.CPU, threads=1).session


def batch_of(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (count, 112, 112, 3), dtype=np.uint8)


@pytest.mark.parametrize("cuda_graph", [False, True])
def test_bound_calls_are_plain_calls(session, cuda_graph: bool) -> None:
    calls = BoundSession(session, device="cpu", cuda_graph=cuda_graph)
    for seed, count in enumerate((1, 1, 1, 3, 1, 3)):
        found = calls("image", batch_of(count, seed))
        for value, wanted in zip(found, session.run(None, {"image": batch_of(count, seed)}), strict=True):
            np.testing.assert_allclose(value, wanted, atol=1e-5)


def test_outputs_belong_to_the_caller(session) -> None:
    calls = BoundSession(session, device="cpu", cuda_graph=False)
    calls("image", batch_of(1))
    first = calls("image", batch_of(1, seed=1))
    kept = first[0].copy()
    calls("image", batch_of(1, seed=2))
    np.testing.assert_array_equal(first[0], kept)


def test_a_batch_that_is_no_block_of_memory(session) -> None:
    calls = BoundSession(session, device="cpu", cuda_graph=False)
    mirrored = batch_of(2)[:, :, ::-1]
    for _ in range(2):
        found = calls("image", mirrored)
    np.testing.assert_allclose(found[0], session.run(None, {"image": np.ascontiguousarray(mirrored)})[0], atol=1e-5)


def test_shapes_that_are_too_many_still_run(session) -> None:
    calls = BoundSession(session, device="cpu", cuda_graph=False)
    for count in range(1, MAX_SHAPES + 3):
        assert calls("image", batch_of(count))[1].shape == (count,)
    assert len(calls._slots) == MAX_SHAPES


def test_threads_take_turns(session, in_threads) -> None:
    calls = BoundSession(session, device="cpu", cuda_graph=False)
    wanted = [session.run(None, {"image": batch_of(1, seed)})[0] for seed in range(4)]
    wrong = []

    def call(seed: int) -> None:
        for _ in range(20):
            if not np.allclose(calls("image", batch_of(1, seed))[0], wanted[seed], atol=1e-5):
                wrong.append(seed)

    in_threads(call)
    assert not wrong


def test_sessions_take_turns_as_one_captures_a_graph(monkeypatch: pytest.MonkeyPatch, in_threads) -> None:
    monkeypatch.setattr("mien.runtime.backends.ort.io_binding.MAX_SHAPES", 0)  # calls only, no buffers
    running, most = [0], [0]

    class Session:
        def run(self, *_: object) -> list[np.ndarray]:
            running[0] += 1
            most[0] = max(most[0], running[0])
            time.sleep(0.001)
            running[0] -= 1
            return []

    sessions = [BoundSession(Session(), device="cuda", cuda_graph=True) for _ in range(4)]
    in_threads(lambda i: [sessions[i]("image", batch_of(1)) for _ in range(5)])
    assert most == [1]


def test_placement_names_every_node() -> None:
    placed = placement(shipped_model("landmarks"), provider=Provider.CPU)
    if placed is None:
        pytest.skip("this onnxruntime does not tell")
    assert list(placed) == ["CPUExecutionProvider"]
    assert sum(name.startswith("Conv") or "Conv" in name for name in placed["CPUExecutionProvider"]) > 40


def test_tensorrt_is_no_session() -> None:
    with pytest.raises(ProviderError, match="open_model"):
        open_session(shipped_model("landmarks"), provider=Provider.TENSORRT, threads=1)


def test_onnx_runtime_without_the_provider_says_so() -> None:
    with pytest.raises(ProviderError, match=r"has no TensorrtExecutionProvider|ONNX Runtime fell back"):
        open_session(shipped_model("landmarks"), provider=Provider.ORT_TENSORRT, threads=1)


def test_missing_file_is_told(tmp_path) -> None:
    with pytest.raises(ModelError, match="no model"):
        placement(tmp_path / "none.onnx", provider=Provider.CPU)
