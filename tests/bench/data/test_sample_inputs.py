"""Inputs of benchmarks differ as long as the pictures last, and each folder is searched for labels once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from mien.bench.data import sample_inputs
from mien.bench.data.sample_inputs import sample_batch, sample_pictures
from mien.bench.suite import inputs
from mien.bench.suite.inputs import INPUTS, BenchInputs
from mien.runtime.models.spec import ModelSpec, Task
from mien.runtime.values import Image
from mien.runtime.vision.resize import resized

CLASSIFIER = ModelSpec(Task.CLASSIFY, (32, 32), ("probabilities",), classes=("a", "b"))


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    for i in range(2 * INPUTS):
        picture = np.random.default_rng(i).integers(0, 255, (32, 32, 3), dtype=np.uint8)
        cv2.imwrite(str(tmp_path / f"{i}.png"), picture)
    return tmp_path


def different(images: Sequence[Image] | Image) -> int:
    return len({image.tobytes() for image in images})


def test_the_inputs_of_a_benchmark_are_different_pictures(
    pictures: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    made = BenchInputs(tmp_path_factory.mktemp("inputs"), data=[pictures], feed=None)
    for batch in (1, 2):
        assert different(made.images(CLASSIFIER, batch)) == INPUTS * batch


def test_pictures_repeat_only_once_all_are_drawn(pictures: Path) -> None:
    assert different(list(sample_pictures(2 * INPUTS, data=pictures))) == 2 * INPUTS
    for i in range(3, 2 * INPUTS):
        (pictures / f"{i}.png").unlink()
    assert (
        different(list(sample_pictures(5, data=pictures))) == different(sample_batch(CLASSIFIER, 4, data=pictures)) == 3
    )


def test_a_picture_is_made_an_input_before_the_next_is_read(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = []

    def read(path: Path) -> Image:
        steps.append("read")
        return np.asarray(cv2.imread(str(path)), np.uint8)

    def reduce(image: Image, size: int) -> Image:
        steps.append("resized")
        return resized(image, size)

    monkeypatch.setattr(sample_inputs, "read_image", read)
    monkeypatch.setattr(sample_inputs, "resized", reduce)
    sample_batch(CLASSIFIER, 3, data=pictures)
    assert steps == 3 * ["read", "resized"]


def test_a_folder_is_searched_for_labels_once(
    pictures: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    searched = []
    monkeypatch.setattr(inputs, "folder_for", lambda task, folders, _: searched.append(task) or folders[0])
    made = BenchInputs(tmp_path_factory.mktemp("inputs"), data=[pictures], feed=None)
    for batch in (1, 2):
        made.images(CLASSIFIER, batch)
    assert made.labelled(CLASSIFIER) == pictures and searched == [Task.CLASSIFY]
