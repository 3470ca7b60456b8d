"""Label files and folders that cannot be trained on are refused with the row or file named."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import numpy as np
import pytest

from mien.bench.accuracy import evaluate_attributes as evaluation_attributes
from mien.bench.data.age_gender_labels import check_pictures, check_split, join_copies, read_age_gender
from mien.bench.data.class_folders import read_classes
from mien.bench.data.splits import held_out
from mien.export.training.config import NetworkConfig
from mien.export.training.tasks.age_gender import AgeGenderTraining
from mien.runtime.errors import InputError


def with_row(folder: Path, number: int, **changes: str) -> Path:
    """Change cells of a row of the label file."""
    labels = folder / "labels.csv"
    lines = [line.split(",") for line in labels.read_text().splitlines()]
    for name, value in changes.items():
        lines[number][lines[0].index(name)] = value
    labels.write_text("\n".join(",".join(line) for line in lines) + "\n")
    return folder


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"age": "nan"}, r"row 4: expected a finite number in column age, found 'nan'"),
        ({"age": ""}, r"row 4: expected a number in column age, found ''"),
        ({"age": "-1"}, r"row 4: expected an age from 0 to 120 years, found -1"),
        ({"age": "121"}, r"row 4: expected an age from 0 to 120 years, found 121"),
        ({"gender": "f"}, r"row 4: expected gender male or female, found 'f'"),
        ({"file": "01.png"}, r"row 4: 01.png is already listed in .*row 3"),
        ({"file": "gone.png"}, r"missing 1 labelled image, the first is .*gone.png"),
    ],
)
def test_a_bad_row_is_named(age_gender_folder: Path, changes: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_age_gender(with_row(age_gender_folder, 3, **changes))


def test_an_unreadable_picture_is_named_before_training(age_gender_folder: Path) -> None:
    (age_gender_folder / "images" / "07.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"07\.png is not a picture"):
        check_pictures(read_age_gender(age_gender_folder))


def test_copies_in_two_groups_become_one_group(age_gender_folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    shutil.copy(age_gender_folder / "images" / "00.png", age_gender_folder / "images" / "20.png")
    with caplog.at_level(logging.WARNING, logger="mien"):
        table = join_copies(read_age_gender(age_gender_folder))
    assert table.groups[0] == table.groups[1] == table.groups[20] == table.groups[21] == "0"
    assert "merged the groups of 1 picture with a copy in another group" in caplog.text


def test_what_is_held_out_is_what_training_holds_out(age_gender_folder: Path) -> None:
    raw = read_age_gender(age_gender_folder)
    held, trained = np.flatnonzero(raw.held_out())[0], np.flatnonzero(~raw.held_out())[0]
    images = age_gender_folder / "images"
    shutil.copy(raw.files[trained], images / raw.files[held].name)
    task = AgeGenderTraining(age_gender_folder, NetworkConfig("mobilenet_v3_small", "none"), input_size=64)
    measured = evaluation_attributes.read_labelled_ages(age_gender_folder, True)
    tested = measured.in_test_split()
    assert measured.mask(~tested).files == task.held.files
    copies = {raw.files[held], raw.files[trained]}
    assert len(copies & set(measured.files)) in (0, 2)  # both on one side


def test_one_gender_and_one_group_cannot_be_split(age_gender_folder: Path) -> None:
    table = read_age_gender(age_gender_folder)
    with pytest.raises(InputError, match="one gender only"):
        check_split(table.mask(table.female == 1), age_gender_folder)
    with pytest.raises(InputError, match=r"expected at least 2 groups, to hold one out, found 1"):
        check_split(table.mask(np.array(table.groups) == "3"), age_gender_folder)


def test_groups_stay_whole(age_gender_folder: Path) -> None:
    table = read_age_gender(age_gender_folder)
    held = check_split(table, age_gender_folder)
    assert held.any() and not set(np.array(table.groups)[held]) & set(np.array(table.groups)[~held])


def test_classes_are_folders(class_folder: Path) -> None:
    table = read_classes(class_folder)
    assert table.classes == ("disc", "square") and len(table) == 32
    held = table.held_out()
    assert 0 < held[table.labels == 0].sum() < 16 and 0 < held[table.labels == 1].sum() < 16


def test_bad_class_folders_are_told(class_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(InputError, match="no folder"):
        read_classes(tmp_path / "nowhere")
    (tmp_path / "one" / "a").mkdir(parents=True)
    with pytest.raises(InputError, match=r"two or more subfolders, one per class; found \['a'\]"):
        read_classes(tmp_path / "one")
    (tmp_path / "one" / "b").mkdir()
    with pytest.raises(InputError, match=r"0 picture"):
        read_classes(tmp_path / "one")
    shutil.copy(class_folder / "disc" / "00.png", class_folder / "disc" / "again.png")
    with caplog.at_level(logging.WARNING, logger="mien"):
        assert len(read_classes(class_folder)) == 32
    assert "left out 1 copy of other pictures" in caplog.text
    shutil.copy(class_folder / "disc" / "00.png", class_folder / "square" / "other.png")
    with pytest.raises(InputError, match="the same picture in two classes"):
        read_classes(class_folder)
    (class_folder / "disc" / "000.png").symlink_to("nowhere")
    with pytest.raises(InputError, match=r"no file .*000\.png"):
        read_classes(class_folder)


def test_each_side_of_a_split_has_something() -> None:
    for number in range(200):
        held = held_out([f"{number}-{i}" for i in range(2)], 0.9)
        assert held.sum() == 1
