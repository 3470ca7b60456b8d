from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")

from mien.bench.data.class_folders import read_classes
from mien.export.training.tasks.classify import ClassImages
from mien.runtime.errors import InputError


def test_a_picture_that_cannot_be_read_ends_a_training_and_says_what_to_do(class_folder: Path) -> None:
    (class_folder / "disc" / "00.png").write_text("some notes\n")
    told = r"00\.png is not a picture: it holds text; repair or replace the picture, or remove it from the folder"
    with pytest.raises(InputError, match=told):
        ClassImages(read_classes(class_folder), size=32, seed=0)
