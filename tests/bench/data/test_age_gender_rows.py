"""FairFace and UTKFace are read as they are published."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from mien.bench.accuracy.accuracy import folder_for
from mien.bench.accuracy.evaluate_attributes import read_labelled_ages
from mien.bench.data.age_gender_labels import check_split, join_copies, read_age_gender
from mien.bench.data.age_gender_rows import has_ages
from mien.bench.data.sample_inputs import sample_batch
from mien.runtime.errors import InputError
from mien.runtime.models.spec import ModelSpec, Task
from mien.runtime.pictures.images import read_image

RANGES = {"0-2": 1.0, "3-9": 6.0, "10-19": 14.5, "20-29": 24.5, "60-69": 64.5, "more than 70": 75.0}


def draw(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.random.default_rng(seed).integers(0, 255, (32, 32, 3), dtype=np.uint8))


@pytest.fixture
def fairface(tmp_path: Path) -> Path:
    """FairFace's layout: twelve pictures to train on and six to validate."""
    for part, count in (("train", 12), ("val", 6)):
        rows = ["file,age,gender,race,service_test"]
        for i in range(count):
            draw(tmp_path / part / f"{i + 1}.jpg", seed=100 * count + i)
            rows.append(f"{part}/{i + 1}.jpg,{list(RANGES)[i % 6]},{'Female' if i % 2 else 'Male'},Black,True")
        (tmp_path / f"fairface_label_{part}.csv").write_text("\n".join(rows) + "\n")
    return tmp_path


def test_fairface_is_read_with_its_own_split(fairface: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="mien"):
        table = read_age_gender(fairface)
        read_age_gender(fairface)
    assert (
        len(table) == 18 and table.age[:6].tolist() == list(RANGES.values()) and table.female[:4].tolist() == [0, 1] * 2
    )
    assert {file.parent.name for file in table.mask(table.held_out()).files} == {"val"}
    assert table.held_out().sum() == 6 and (check_split(table, fairface) == table.held_out()).all()
    assert (
        len(read_labelled_ages(fairface, held_out=True)) == 6
        and len(read_labelled_ages(fairface, held_out=False)) == 18
    )
    assert caplog.text.count("age ranges count as their middle") == 1


@pytest.mark.parametrize("layout", ["fairface", "utkface"])
def test_published_crops_are_measured_and_sampled_as_they_are(
    layout: str, tmp_path: Path, class_folder: Path, request: pytest.FixtureRequest
) -> None:
    if layout == "fairface":
        request.getfixturevalue("fairface")
        crops = [tmp_path / part for part in ("train", "val")]
    else:
        crops = [tmp_path / "part1", tmp_path / "part2"]
        for i in range(8):
            draw(crops[i % 2] / f"{20 + i}_{i % 2}_0_2017{i}.jpg", seed=i)
    data = tmp_path / "parts"
    data.mkdir()
    for path in [*crops, *tmp_path.glob("*.csv")]:
        shutil.move(path, data / path.name)
    assert folder_for(Task.AGE_GENDER, [class_folder, data]) == data
    assert folder_for(Task.CLASSIFY, [data, class_folder]) == class_folder
    known = {read_image(file).tobytes() for file in data.rglob("*.jpg")}
    spec = ModelSpec(Task.AGE_GENDER, (32, 32), ("age", "female"))
    assert {image.tobytes() for image in sample_batch(spec, 6, data=data)} <= known


def test_one_label_file_of_fairface_alone_is_split_by_name(fairface: Path) -> None:
    (fairface / "fairface_label_val.csv").unlink()
    table = read_age_gender(fairface)
    assert len(table) == 12 and 0 < table.held_out().sum() < 12


@pytest.mark.parametrize(
    ("emptied", "message"),
    [
        ("train", "the data set's own split holds out all of the 6 pictures; add pictures to its training part"),
        ("val", "the data set's own split holds out none of the 12 pictures; add pictures to its validation part"),
    ],
)
def test_an_empty_part_of_fairface_is_named(fairface: Path, emptied: str, message: str) -> None:
    labels = fairface / f"fairface_label_{emptied}.csv"
    labels.write_text(labels.read_text().splitlines()[0] + "\n")
    with pytest.raises(InputError, match=message):
        check_split(read_age_gender(fairface), fairface)


def test_fairface_beside_the_folder_that_its_archive_unpacks_to(fairface: Path) -> None:
    for part in ("train", "val"):
        (fairface / "fairface-img-margin025-trainval").mkdir(exist_ok=True)
        shutil.move(fairface / part, fairface / "fairface-img-margin025-trainval" / part)
    assert len(read_age_gender(fairface)) == 18


def test_a_training_picture_that_is_also_a_validation_picture_is_left_out(
    fairface: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copy(fairface / "val" / "2.jpg", fairface / "train" / "5.jpg")
    table = join_copies(read_age_gender(fairface))
    assert len(table) == 17 and table.held_out().sum() == 6 and fairface / "train" / "5.jpg" not in table.files
    assert "left out 1 training picture with a near-duplicate among the validation pictures" in caplog.text


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("train/1.jpg,29-20,Male,x,y", "row 2: expected a range of ages from 0 to 120 years, found 29-20"),
        ("train/1.jpg,20-290,Male,x,y", "row 2: expected a range of ages"),
        ("train/1.jpg,03-Sep,Male,x,y", "row 2: expected a number in column age, found '03-Sep'"),
        ("train/1.jpg,3-9,unknown,x,y", "row 2: expected gender male or female, found 'unknown'"),
        ("train/100.jpg,3-9,Male,x,y", r"missing 1 labelled image, the first is .*100\.jpg"),
    ],
)
def test_a_bad_row_of_fairface_is_named(fairface: Path, row: str, message: str) -> None:
    labels = fairface / "fairface_label_train.csv"
    lines = labels.read_text().splitlines()
    labels.write_text("\n".join([lines[0], row, *lines[2:]]))
    with pytest.raises(InputError, match=message):
        read_age_gender(fairface)


def test_utkface_is_read_by_its_names_and_malformed_ones_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    names = {
        "25_1_2_20170116174525125.jpg.chip.jpg": (25, 1),
        "part2/7_0_4_20170109150557335.jpg": (7, 0),
        "116_1_0_20170120134921760.jpg.chip.jpg": (116, 1),
    }
    malformed = ["39_1_20170116174525125.jpg.chip.jpg", "61_3_1_2017.jpg", "200_0_1_2017.jpg", "_1_2_2017.jpg", "a.jpg"]
    for i, name in enumerate([*names, *malformed]):
        draw(tmp_path / name, i)
    with caplog.at_level(logging.WARNING, logger="mien"):
        table = read_age_gender(tmp_path)
    found = {file: (age, female) for file, age, female in zip(table.files, table.age, table.female, strict=True)}
    assert found == {tmp_path / name: label for name, label in names.items()}
    assert "left out 5 of 8 pictures, not named age_gender_race_date as in UTKFace" in caplog.text


def test_one_picture_named_as_in_utkface_settles_that_a_folder_has_ages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "25_1_2_2017.txt").write_text("named like a face, but no picture")
    draw(tmp_path / "a.jpg", 0)
    assert not has_ages(tmp_path)
    named = tmp_path / "25_1_2_2018.jpg"

    def stops_early(*_: object) -> Iterator[Path]:
        yield tmp_path / "a.jpg"
        yield named
        raise AssertionError("the rest of the folder was listed")

    draw(named, 1)
    monkeypatch.setattr("mien.bench.data.age_gender_rows.walk", stops_early)
    assert has_ages(tmp_path) and not caplog.records


def test_a_folder_without_any_labels_says_what_could_be_there(tmp_path: Path) -> None:
    draw(tmp_path / "a.jpg", 0)
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(InputError, match=r"has no labels\.csv, no fairface_label_train\.csv or fairface_label_val"):
            read_age_gender(folder)
