"""The load benchmark: what it replays is what predict calls, and its figures follow from its raw values."""

from __future__ import annotations

import json
import statistics
from pathlib import Path

import cv2
import numpy as np
import pytest

from mien.bench.studies.predict_load import Arrangement, Bare, Call, arrange, arrangements, main, record_calls
from mien.runtime.capture.demo_camera import find_photo
from mien.runtime.pictures.images import read_image


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three pictures: a face, two faces, none."""
    photo = read_image(find_photo()[0])
    pictures = {
        "a": photo,
        "b": np.concatenate([photo, photo[:, ::-1]], axis=1),
        "c": np.full((64, 96, 3), 90, np.uint8),
    }
    for name, pixels in pictures.items():
        cv2.imwrite(str(tmp_path / f"{name}.png"), pixels)
    return tmp_path


def test_all_network_calls_of_a_picture_are_recorded(folder: Path) -> None:
    one, two, none = record_calls(sorted(folder.glob("*.png")))
    whole, half, close, *crops = one
    assert [c.model for c in one] == [*["detector"] * 3, "landmarks", "landmarks", "age_gender"]
    assert whole.batch.shape[1] > half.batch.shape[1] and [len(c.batch) for c in crops] == [1, 1, 1]
    assert [len(c.batch) for c in two[-3:]] == [2, 2, 2]
    # Without a face the picture is searched upright and in seven turns, each whole and small for a close face.
    assert [c.model for c in none] == ["detector"] * 16 and none[0].batch.shape == (1, 64, 96, 3)
    assert {c.batch.shape for c in none[1::2]} == {close.batch.shape}


def test_an_arrangement_keeps_every_image_once(folder: Path) -> None:
    recorded = record_calls(sorted(folder.glob("*.png")))

    def images(calls: list[list[Call]]) -> list[tuple[str, bytes]]:
        return sorted((c.model, pixels.tobytes()) for one in calls for c in one for pixels in c.batch)

    assert arrange(recorded, Arrangement(2, 1)) == recorded
    batched = arrange(recorded, Arrangement(2, 1, crops=2, pictures=4))
    assert images(batched) == images(recorded)
    assert [len(c.batch) for (c,) in batched if c.model == "landmarks"] == [2, 2, 2]


def test_threads_are_the_same_in_all_arrangements() -> None:
    assert {a.workers * a.threads for a in arrangements(4)} == {4}
    assert all(a.workers == 1 for a in arrangements(1))


def test_a_bad_call_reaches_the_caller() -> None:
    crop = np.zeros((1, 5, 5, 3), np.uint8)
    with (
        Bare([[Call("landmarks", crop)]], Arrangement(2, 1)) as bare,
        pytest.raises(Exception, match="INVALID_ARGUMENT"),
    ):
        bare()


def test_figures_follow_from_the_raw_values(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([str(folder), "--threads", "2", "--rounds", "5"])
    row = json.loads(capsys.readouterr().out)
    assert row["pictures"] == 3 and row["faces"] == 3 and row["threads"] == 2
    walls = [row[side]["wall_ns"] for side in ("bare", "predict")]
    assert [len(w) for w in walls] == [5, 5]
    assert row["predict"]["images_per_second"] == pytest.approx(3e9 / statistics.median(walls[1]), abs=0.01)
    ratio = row["predict_of_bare"]
    assert ratio["value"] == pytest.approx(statistics.median(b / p for b, p in zip(*walls, strict=True)), abs=1e-4)
    assert 0 < ratio["low"] <= ratio["value"] <= ratio["high"]


def test_an_empty_folder_is_misuse(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([str(tmp_path)])
    assert "holds no pictures" in capsys.readouterr().err
