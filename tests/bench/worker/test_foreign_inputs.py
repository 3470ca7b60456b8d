"""Inputs for anybody's file: of sizes that fit each other, and worth timing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mien.bench.worker.foreign_inputs import channel_axis, given_feeds, is_open, made_feeds
from mien.runtime.capture.demo_camera import DemoCamera
from mien.runtime.errors import InputError

FLOAT, INT64 = "tensor(float)", "tensor(int64)"


def shapes(wanted: dict[str, tuple[list[Any], str]], *, batch: int = 2, variant: int = 0) -> dict[str, tuple[int, ...]]:
    (feed,), _ = made_feeds(wanted, [DemoCamera().frame(0)], batch=batch, variant=variant)
    return {name: array.shape for name, array in feed.items()}


def test_a_name_has_one_size_and_nothing_stays_nothing() -> None:
    recurrent = {"x": (["seq", "batch", 8], FLOAT), "h0": ([1, "batch", 16], FLOAT)}
    assert shapes(recurrent) == {"x": (16, 2, 8), "h0": (1, 2, 16)}
    cached = {
        "ids": (["b", "words"], INT64),
        "past": (["b", 4, "past_words", 8], FLOAT),
        "mask": (["b", "past_words + words"], INT64),
        "none": (["b", 0, 8], FLOAT),
    }
    for variant in range(3):
        made = shapes(cached, variant=variant)
        assert made["mask"][1] == made["past"][2] + made["ids"][1] and made["none"] == (2, 0, 8)
    assert shapes(cached)["ids"] != shapes(cached, variant=1)["ids"]
    assert shapes({"x": (["rows", 8], FLOAT)}) == {"x": (2, 8)}, (
        "the first axis is the batch unless another is named so"
    )


def test_sides_of_pictures_and_of_maps_are_of_a_useful_size() -> None:
    for channels in (1, 3, 4, 64):
        assert shapes({"x": (["b", channels, "h", "w"], FLOAT)})["x"] == (2, channels, 224, 224)
        assert shapes({"x": (["b", "h", "w", channels], FLOAT)})["x"] == (2, 224, 224, channels)
        assert shapes({"x": ([None, channels, None, None], FLOAT)})["x"] == (2, channels, 224, 224)
    _, _, height, width = shapes({"x": (["b", 3, "h", "w"], FLOAT)}, variant=2)["x"]
    assert height != width and height % 2 == 1


def test_no_row_of_a_mask_is_all_of_one_kind() -> None:
    feeds, _ = made_feeds({"mask": (["b", "words"], INT64)}, [DemoCamera().frame(0)] * 4, batch=50)
    for feed in feeds:
        assert set(feed["mask"].min(axis=1)) == {0} and set(feed["mask"].max(axis=1)) == {1}


def test_what_is_open_is_known() -> None:
    assert is_open({"x": (["b", 3], FLOAT)}) and is_open({"x": ([1, None], FLOAT)})
    assert not is_open({"x": ([1, 0], FLOAT)}) and not is_open({})


@pytest.mark.parametrize(
    ("shape", "axis"),
    [
        ([1, 3, 224, 224], 1),
        (["batch", 3, "height", "width"], 1),
        ([None, 112, 112, 3], 3),
        ([1, 1, 28, 28], 1),
        ([1, 3, 4, 4], None),
        ([1, 64, 56, 56], None),
        ([1, 128], None),
    ],
)
def test_an_image_is_known_by_its_shape(shape: list[Any], axis: int | None) -> None:
    assert channel_axis(shape) == axis


def test_inputs_are_made_from_shapes() -> None:
    pictures = [DemoCamera().frame(i) for i in (0, 20)]
    wanted = {
        "image": (["batch", 3, 32, 48], "tensor(float)"),
        "bytes": ([1, None, None, 1], "tensor(uint8)"),
        "state": ([2, "hidden"], "tensor(float16)"),
        "ids": ([1, 5], "tensor(int64)"),
    }
    feeds, note = made_feeds(wanted, pictures, batch=4)
    assert len(feeds) == 2 and feeds[0]["image"].shape == (4, 3, 32, 48) and feeds[0]["image"].dtype == np.float32
    assert 0.3 < feeds[0]["image"].max() <= 1 and feeds[0]["image"].std() > 0.05
    assert not np.array_equal(feeds[0]["image"], feeds[1]["image"]), "inputs are rotated"
    assert feeds[0]["bytes"].shape == (1, 224, 224, 1) and feeds[0]["bytes"].dtype == np.uint8
    assert feeds[0]["state"].dtype == np.float16 and set(np.unique(feeds[0]["ids"])) <= {0, 1}
    assert "image 4×3×32×48: pictures" in note and "state 2×16: noise" in note
    again, _ = made_feeds(wanted, pictures, batch=4)
    assert np.array_equal(again[1]["state"], feeds[1]["state"]), "noise is seeded"
    with pytest.raises(InputError, match="takes no input"):
        made_feeds({}, pictures, batch=1)
    with pytest.raises(InputError, match=r"tensor\(string\), which cannot be made"):
        made_feeds({"text": ([1], "tensor(string)")}, pictures, batch=1)
    with pytest.raises(InputError, match="cannot be made; only tensors can be fed"):
        made_feeds({"list": ([1], "seq(tensor(float))")}, pictures, batch=1)


def test_inputs_can_be_given() -> None:
    image, state = np.ones((3, 1, 8), np.float32), np.zeros((1, 4), np.float32)
    feeds = given_feeds({"image": image, "state": state}, {"image": 2, "state": 2})
    assert len(feeds) == 3 and feeds[2]["image"].shape == (1, 8) and feeds[2]["state"] is not None
    assert len(given_feeds({"image": image}, {"image": 3})) == 1
    with pytest.raises(InputError, match="expected inputs named image, found other"):
        given_feeds({"other": image}, {"image": 3})
    with pytest.raises(InputError, match="with 1 dimensions"):
        given_feeds({"image": image}, {"image": 1})
    with pytest.raises(InputError, match="same number"):
        given_feeds({"a": np.ones((2, 1)), "b": np.ones((3, 1))}, {"a": 1, "b": 1})
