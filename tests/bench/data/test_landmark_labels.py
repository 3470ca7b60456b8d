from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from mien.bench.data.face_boxes import read_faces
from mien.bench.data.landmark_labels import MIRRORED, read_landmarks
from mien.bench.data.splits import held_out, in_test_split
from mien.export.training.tasks.landmark_crops import LandmarkCrops, cut_face, to_fractions, validation_crops
from mien.runtime.errors import InputError
from mien.runtime.pictures.images import read_image
from mien.runtime.vision.geometry import landmark_bounds


def edit(path: Path, line: int, change: object) -> None:
    lines = path.read_text().splitlines()
    lines[line] = change(lines[line])  # type: ignore[operator]
    path.write_text("\n".join(lines) + "\n")


def test_reads_points_and_depth(landmark_folder: Path) -> None:
    table = read_landmarks(landmark_folder)
    assert len(table) == 24 and table.points.shape == (24, 68, 2)
    assert np.isnan(table.depth[0]).all() and np.isfinite(table.depth[1:]).all()


def test_reads_the_seed_layout(tmp_path: Path, landmark_folder: Path) -> None:
    table = read_landmarks(landmark_folder)
    (tmp_path / "training").mkdir()
    rows = ["," + ",".join(str(i) for i in range(136))]
    for i in range(3):
        name = f"Some_Body_{i}.png"
        (tmp_path / "training" / name).write_bytes(table.files[i].read_bytes())
        rows.append(",".join([name, *map(str, table.points[i].ravel())]))
    (tmp_path / "training_frames_keypoints.csv").write_text("\n".join(rows))
    assert [len(b) for b in read_faces(tmp_path).boxes] == [1, 1, 1]
    seed = read_landmarks(tmp_path)
    assert seed.subjects == ("Some_Body",) * 3
    assert np.allclose(seed.points, table.points[:3])


def test_a_row_with_too_few_columns_is_named(landmark_folder: Path) -> None:
    edit(landmark_folder / "landmarks.csv", 3, lambda line: line.rsplit(",", 1)[0])
    with pytest.raises(InputError, match=r"landmarks\.csv, row 4: expected 141 columns, found 140"):
        read_landmarks(landmark_folder)


def test_a_cell_that_is_no_number_is_named(landmark_folder: Path) -> None:
    edit(landmark_folder / "landmarks.csv", 2, lambda line: line.rsplit(",", 1)[0] + ",nan")
    with pytest.raises(InputError, match=r"row 3: .* column y67, found 'nan'"):
        read_landmarks(landmark_folder)


@pytest.mark.parametrize("points", ["zeros", "one place", "one line", "fractions"])
def test_rows_that_are_no_face_are_left_out_and_counted_once(
    landmark_folder: Path, points: str, caplog: pytest.LogCaptureFixture
) -> None:
    whole = read_landmarks(landmark_folder)
    changed = {
        "zeros": np.zeros((68, 2)),
        "one place": np.full((68, 2), 40.0),
        "one line": whole.points[5] * [1, 0],
        "fractions": whole.points[5] / 160,
    }[points]
    for line in (6, 7, 8, 9):
        edit(
            landmark_folder / "landmarks.csv",
            line,
            lambda text: ",".join([*text.split(",")[:5], *map(str, changed.ravel())]),
        )
    with caplog.at_level(logging.WARNING, logger="mien"):
        table, faces = read_landmarks(landmark_folder), read_faces(landmark_folder)
    assert len(table) == len(faces) == 20 and np.allclose(table.points[5:], whole.points[9:])
    assert caplog.text.count("left out 4 rows whose points lie within 1 px") == 1 and "face_05.png, " in caplog.text


def test_points_in_fractions_of_the_picture_are_refused(landmark_folder: Path) -> None:
    for line in range(1, 25):
        edit(
            landmark_folder / "landmarks.csv",
            line,
            lambda text: ",".join([*text.split(",")[:5], *(str(float(v) / 160) for v in text.split(",")[5:])]),
        )
    with pytest.raises(InputError, match="the points of every row lie within 1 px; expected px of the picture"):
        read_landmarks(landmark_folder)


def test_what_is_missing_is_named(landmark_folder: Path, tmp_path: Path) -> None:
    (landmark_folder / "images" / "face_05.png").unlink()
    with pytest.raises(InputError, match=r"1 labelled image.*face_05"):
        read_landmarks(landmark_folder)
    with pytest.raises(InputError, match="contains neither"):
        read_landmarks(tmp_path / "nowhere")


def test_mirroring_twice_is_nothing_and_keeps_the_face(landmark_folder: Path) -> None:
    assert (MIRRORED[MIRRORED] == np.arange(68)).all()
    points = read_landmarks(landmark_folder).points[0]
    centre = (points[:, 0].min() + points[:, 0].max()) / 2
    mirrored = np.stack([2 * centre - points[MIRRORED, 0], points[MIRRORED, 1]], axis=1)
    # The drawn face is symmetric, so its mirror image, renumbered, is itself.
    assert np.allclose(mirrored, points, atol=0.1)


def test_split_is_by_group_and_stable() -> None:
    groups = [f"g{i // 4}" for i in range(4000)]
    held = held_out(groups, 0.1)
    assert all(len(set(held[i : i + 4])) == 1 for i in range(0, 4000, 4))
    assert 0.07 < held.mean() < 0.13
    assert (held_out(groups[::-1], 0.1)[::-1] == held).all()
    assert held_out(["a", "b"], 0.0).sum() == 1 and not held_out(["a"], 0.0).any()


def test_half_of_the_held_out_groups_validate_and_half_are_tested() -> None:
    groups = np.array([f"g{i // 4}" for i in range(4000)])
    kept = groups[held_out(groups.tolist(), 0.1)].tolist()
    tested = in_test_split(kept, 0.1)
    assert all(len(set(tested[i : i + 4])) == 1 for i in range(0, len(kept), 4)) and 0.35 < tested.mean() < 0.65
    assert (in_test_split(groups.tolist(), 0.1)[held_out(groups.tolist(), 0.1)] == tested).all()  # before or after
    assert (
        in_test_split(["a"], 0.1).sum() == 0
        and in_test_split(["a", "b"], 0.0).sum() == 1
        and not len(in_test_split([]))
    )


def test_validation_crops_hold_the_points(landmark_folder: Path) -> None:
    table = read_landmarks(landmark_folder)
    images, points = validation_crops(table, 64)
    assert images.shape == (24, 64, 64, 3)
    spans = points[..., :2].max(axis=1) - points[..., :2].min(axis=1)
    assert np.allclose(spans.max(axis=1), 1 / 1.3)
    # Depth is in crop widths too.
    side = 1.3 * (table.points[1].max(axis=0) - table.points[1].min(axis=0)).max()
    assert np.allclose(points[1, :, 2] * side, table.depth[1])


def test_fractions_are_inverse_to_the_crop(landmark_folder: Path) -> None:
    table = read_landmarks(landmark_folder)
    crop = cut_face(read_image(table.files[0]), landmark_bounds(table.points[0]), 64, roll=0.3)
    labelled = np.concatenate([table.points[0], np.ones((68, 1))], axis=1)
    assert np.allclose(crop.to_image(to_fractions(labelled, crop)), labelled)


def test_training_crops_repeat_by_seed_and_epoch(landmark_folder: Path) -> None:
    table = read_landmarks(landmark_folder)
    crops = LandmarkCrops(table, size=64, seed=1, faces_of=read_faces(landmark_folder).boxes)
    crops.read_images()
    a, b = crops[3], crops[3]
    assert all((x.nan_to_num() == y.nan_to_num()).all() for x, y in zip(a, b, strict=True))
    crops.epoch = 1
    assert (crops[3][0] != a[0]).any()
    presences = []
    for epoch in range(20):
        crops.epoch = epoch
        presences += [float(crops[i][2]) for i in range(0, 24, 3)]
    assert 0.7 < np.mean(presences) < 0.95  # NEGATIVE_SHARE of them hold no face


def test_labels_follow_the_pixels(landmark_folder: Path) -> None:
    """The dark eyes lie under the eye labels of augmented crops, mirrored and turned ones too."""
    table = read_landmarks(landmark_folder)
    crops = LandmarkCrops(table, size=96, seed=0, faces_of=read_faces(landmark_folder).boxes)
    crops.read_images()
    hits = total = 0
    for epoch in range(6):
        crops.epoch = epoch
        for i in range(24):
            pixels, points, presence, *_ = (t.numpy() for t in crops[i])
            if presence < 0.5:
                assert np.isnan(points).all()
                continue
            grey = pixels.mean(axis=2)
            for eye in (slice(36, 42), slice(42, 48)):
                x, y = (points[eye, :2].mean(axis=0) * 96).astype(int)
                if 4 <= x < 92 and 4 <= y < 92:
                    total += 1
                    hits += grey[y - 1 : y + 2, x - 1 : x + 2].mean() < np.median(
                        grey[y - 12 : y + 13, x - 12 : x + 13]
                    )
    assert total > 100 and hits / total > 0.85


def test_faces_of_a_landmark_folder(landmark_folder: Path) -> None:
    (landmark_folder / "boxes_yunet.csv").write_text("file,x,y,w,h,score\nface_00.png,0,0,12,14,0.9\n")
    faces = read_faces(landmark_folder)
    assert [len(b) for b in faces.boxes[:2]] == [2, 1]
    assert faces.groups == read_landmarks(landmark_folder).subjects


def test_boxes_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "boxes.csv").write_text("file,x,y,w,h\na.jpg,1,1,0,5\n")
    with pytest.raises(InputError, match=r"row 2: expected a box .* 0\.0 × 5\.0 px"):
        read_faces(tmp_path)
    (tmp_path / "boxes.csv").unlink()
    with pytest.raises(InputError, match="no pictures"):
        read_faces(tmp_path)
