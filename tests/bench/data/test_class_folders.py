"""Class folders as they are found on disks: system files beside them, and sets that come in parts."""

from __future__ import annotations

import logging
import os
import shutil
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from mien.bench.data.class_folders import read_classes
from mien.runtime.errors import InputError


def draw(path: Path) -> Path:
    """Write a picture that no other path has."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(zlib.crc32(os.fsencode(path))).integers(0, 255, (16, 16, 3), dtype=np.uint8)
    path.write_bytes(cv2.imencode(".png", pixels)[1].tobytes())
    return path


def draw_parts(root: Path, *parts: str, classes: str = "cats dogs", count: int = 3) -> None:
    for part in parts:
        for name in classes.split():
            for i in range(count):
                draw(root / part / name / f"{i}.png")


def test_what_systems_leave_behind_is_no_sample_and_no_class(
    class_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clean = read_classes(class_folder)
    for name in ("disc", "square"):
        (class_folder / name / "._00.png").write_bytes(b"\0\5\x16\7")
        (class_folder / name / ".DS_Store").write_bytes(b"\0")
        (class_folder / name / "Thumbs.db").write_bytes(b"\xd0\xcf")
        draw(class_folder / name / "@eaDir" / "00.png" / "SYNOPHOTO_THUMB_M.png")
        draw(class_folder / name / ".hidden" / "00.png")
        draw(class_folder / name / ".trash.png")
    draw(class_folder / "__MACOSX" / "disc" / "._01.png")
    draw(class_folder / "@eaDir" / "01.png")
    draw(class_folder / ".thumbnails" / "01.png")
    draw(class_folder / ".cache" / "02.png")
    draw(class_folder / "contact-sheet.png")
    with caplog.at_level(logging.WARNING, logger="mien"):
        table = read_classes(class_folder)
    assert (table.classes, table.files) == (clean.classes, clean.files)
    assert "skipped 11 files that are not pictures (system file or folder: 11)" in caplog.text
    assert "left out 6 pictures, hidden or outside the class folders" in caplog.text


@pytest.mark.parametrize(
    ("parts", "held_out"),
    [
        (("training_set", "test_set"), "test_set"),
        (("train", "val"), "val"),
        (("train", "val", "test"), "val"),
        (("Training", "Validation"), "Validation"),
        (("Train Data", "Test Data"), "Test Data"),
        (("dataset_train", "dataset-test"), "dataset-test"),
    ],
)
def test_the_training_part_is_trained_on_and_the_other_is_held_out(
    tmp_path: Path, parts: tuple[str, ...], held_out: str, caplog: pytest.LogCaptureFixture
) -> None:
    draw_parts(tmp_path, *parts)
    with caplog.at_level(logging.WARNING, logger="mien"):
        table = read_classes(tmp_path)
    assert table.classes == ("cats", "dogs") and len(table) == 12
    held = table.held_out()
    assert {file.parent.parent.name for file in table.mask(held).files} == {held_out}
    assert {file.parent.parent.name for file in table.mask(~held).files} == {parts[0]}
    assert (table.labels == [file.parent.name == "dogs" for file in table.files]).all()
    assert f"using {parts[0]} for training and {held_out} for validation" in caplog.text
    assert ("test is not used" in caplog.text) == (len(parts) == 3)


def test_parts_that_an_archive_wraps_in_folders_of_their_own_name(tmp_path: Path) -> None:
    draw_parts(tmp_path, "training_set/training_set", "test_set/test_set")
    assert read_classes(tmp_path).held_out().sum() == 6
    draw_parts(tmp_path / "other", "train")
    assert read_classes(tmp_path / "other").classes == ("cats", "dogs")


def test_a_training_picture_that_is_also_held_out_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    draw_parts(tmp_path, "train", "test")
    shutil.copy(tmp_path / "test" / "cats" / "1.png", tmp_path / "train" / "cats" / "again.png")
    table = read_classes(tmp_path)
    assert table.held_out().sum() == 6 and (~table.held_out()).sum() == 6
    assert "left out 1 copy of other pictures" in caplog.text


def test_one_picture_a_class_is_enough_where_the_parts_are_given(tmp_path: Path) -> None:
    draw_parts(tmp_path, "train", "test", count=1)
    assert len(read_classes(tmp_path)) == 4
    with pytest.raises(InputError, match=r"train/cats contains 1 picture; a class needs at least two"):
        read_classes(tmp_path / "train")


@pytest.mark.parametrize(
    ("parts", "classes", "message"),
    [
        (("train set", "test set", "models"), "a b", r"look like parts .* pass one, as --data '.*/test set'$"),
        (("train", "test", "models"), "a b", r"models, test, train look like parts .* pass one, as --data .*/test$"),
        (("test", "val"), "a b", r"test, val look like parts of a data set, not classes; pass one, as --data .*/test$"),
        (("train1", "train2"), "a b", r"train1, train2 look like parts"),
        (("train", "test"), "a", r"train: expected two or more subfolders, one per class; found \['a'\]"),
    ],
)
def test_parts_that_make_no_training_and_validation_set_are_refused(
    tmp_path: Path, parts: tuple[str, ...], classes: str, message: str
) -> None:
    draw_parts(tmp_path, *parts, classes=classes)
    with pytest.raises(InputError, match=message):
        read_classes(tmp_path)


def test_parts_are_never_classes(tmp_path: Path) -> None:
    for part in ("train", "test"):
        for i in range(4):
            draw(tmp_path / part / f"cat.{i}.png")
    with pytest.raises(InputError, match=r"train: expected two or more subfolders, one per class; found none"):
        read_classes(tmp_path)
    shutil.rmtree(tmp_path / "train")
    draw_parts(tmp_path, "train", classes="a b")
    with pytest.raises(InputError, match=r"test: expected two or more subfolders"):
        read_classes(tmp_path)
    shutil.rmtree(tmp_path / "test")
    draw_parts(tmp_path, "test", classes="a c")
    with pytest.raises(InputError, match="expected the same classes in train and test, found a, b and a, c"):
        read_classes(tmp_path)


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    draw_parts(tmp_path, "", classes="bus plane train")
    table = read_classes(tmp_path)
    assert table.classes == ("bus", "plane", "train") and table.given_split is None


def test_a_root_that_is_one_folder_too_high_says_what_to_type(tmp_path: Path) -> None:
    draw_parts(tmp_path, "PetImages")
    with pytest.raises(
        InputError, match=r"found \['PetImages'\]; if its subfolders are the classes, pass --data .*/PetImages"
    ):
        read_classes(tmp_path)


def test_names_that_are_odd_and_names_that_are_no_text(tmp_path: Path) -> None:
    draw_parts(tmp_path, "", classes="café,au=lait 猫;😀")
    (tmp_path / "猫;😀" / "0.png").rename(os.fsdecode(os.fsencode(tmp_path / "猫;😀") + b"/caf\xe9.png"))
    table = read_classes(tmp_path)
    assert table.classes == ("café,au=lait", "猫;😀") and table.held_out().sum() == 2
    os.rename(tmp_path / "猫;😀", os.fsencode(tmp_path) + b"/caf\xe9")  # noqa: PTH104
    with pytest.raises(InputError, match=r"the name of the class folder 'caf\\udce9' is not plain UTF-8"):
        read_classes(tmp_path)
