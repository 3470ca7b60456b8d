from __future__ import annotations

import threading
from contextlib import closing
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from mien.runtime.faces.landmarks import locate
from mien.runtime.faces.locator import Locator
from mien.runtime.models.runner import Runner
from mien.runtime.values import Image

PICTURE = np.random.default_rng(0).integers(0, 255, (240, 320, 3), dtype=np.uint8)


class Model:
    """Puts all landmarks of a crop where its brightness says; notes the sizes of its batches, and the threads."""

    spec = SimpleNamespace(input_size=(16, 16), crop_scale=1.3)

    def __init__(self, provider: str = "cpu", *, fails_at: int | None = None) -> None:
        self.provider = provider
        self.fails_at = fails_at
        self.calls: list[tuple[int, str]] = []

    def __call__(self, batch: Image) -> dict[str, Any]:
        self.calls.append((len(batch), threading.current_thread().name))
        if len(batch) == self.fails_at:
            raise ValueError("out of memory")
        brightness = batch.mean(axis=(1, 2, 3)) / 255
        return {"landmarks": np.tile(brightness[:, None, None], (1, 68, 3)).astype(np.float32), "presence": brightness}


def places(count: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(count)
    corners = rng.uniform(0, 200, (count, 2))
    return np.concatenate([corners, corners + rng.uniform(20, 60, (count, 2))], axis=1), rng.uniform(-0.5, 0.5, count)


@pytest.mark.parametrize("count", [0, 1, 2, 5])
@pytest.mark.parametrize("provider", ["cpu", "cuda"])
def test_faces_are_located_as_in_one_call(count: int, provider: str) -> None:
    model = Model(provider)
    with closing(Locator(cast(Runner, model))) as locator:
        found = locator(PICTURE, *places(count))
    assert all(
        np.allclose(a, b) for a, b in zip(found, locate(cast(Runner, Model()), PICTURE, *places(count)), strict=True)
    )
    shares = {0: [], 1: [1], 2: [1, 1], 5: [2, 3]}[count] if provider == "cpu" else [count][: bool(count)]
    assert sorted(size for size, _ in model.calls) == shares
    assert len({thread for _, thread in model.calls}) == len(shares)


@pytest.mark.parametrize("fails_at", [2, 3])
def test_an_error_in_either_thread_is_raised(fails_at: int) -> None:
    with closing(Locator(cast(Runner, Model(fails_at=fails_at)))) as locator, pytest.raises(ValueError, match="memory"):
        locator(PICTURE, *places(5))
