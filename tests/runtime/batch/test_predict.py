"""`mien predict` over many files: the rows of one thread, whatever the number of threads and whatever goes wrong."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import struct
import subprocess
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner, Result

from mien.cli import app
from mien.runtime.batch.new_files import NewFiles
from mien.runtime.batch.predict import Outputs, Predictor
from mien.runtime.capture.demo_camera import find_photo
from mien.runtime.errors import InputError, OutputError
from mien.runtime.file_kinds import FileKind, kind_of_file
from mien.runtime.models.runner import Runner
from mien.runtime.output.track_crops import TrackCrops
from mien.runtime.pictures.images import read_image
from mien.runtime.pipeline.pipeline import Pipeline
from mien.runtime.values import Faces, Image
from mien.runtime.vision.face_crop import face_crop
from mien.runtime.vision.geometry import roll_of
from mien.tests.clips import demo_frames, write_clip
from mien.tests.processes import MIEN, started, wait_for

run = CliRunner()


def mien(*arguments: object, code: int = 0) -> Result:
    result = run.invoke(app, [str(a) for a in arguments])
    assert result.exit_code == code, f"{result.output}\n{result.exception!r}"
    return result


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve pictures of several sizes with 0 to 2 faces, in two folders that share names, and two that are none."""
    photos = tmp_path / "photos"
    photo = read_image(find_photo()[0])
    for n in range(12):
        at = photos / ("first" if n < 6 else "second")
        at.mkdir(parents=True, exist_ok=True)
        zoom = 0.5 + 0.1 * n
        pixels = cv2.resize(photo, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_AREA)
        if n % 3 == 1:
            pixels = np.concatenate([pixels, pixels[:, ::-1]], axis=1)
        elif n % 3 == 2:
            pixels = np.full_like(pixels, 80)
        cv2.imwrite(str(at / f"{n % 6}.jpg"), pixels)
    (photos / "first" / "2b.jpg").write_bytes(b"no picture")
    (photos / "second" / "0.png").touch()
    return photos


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """Five frames of the demo camera."""
    return write_clip(tmp_path / "clip.mp4", demo_frames(5))


def test_rows_are_those_of_one_thread_to_the_byte(folder: Path, tmp_path: Path) -> None:
    texts, messages = [], []
    for threads in (1, 2, 5):
        rows = tmp_path / f"{threads}.jsonl"
        messages.append(mien("predict", folder, "--threads", threads, "--json", rows, code=2).stderr)
        texts.append(rows.read_bytes())
    assert texts[0] == texts[1] == texts[2]
    messages = [[line for line in text.splitlines() if line.startswith("skipped: ")] for text in messages]
    assert messages[0] == messages[1] == messages[2] and len(messages[0]) == 2
    parsed = [json.loads(line) for line in texts[0].splitlines()]
    assert [Path(row["image"]).relative_to(folder).as_posix() for row in parsed] == [
        f"{sub}/{n}.jpg" for sub in ("first", "second") for n in range(6)
    ]
    counts = [len(row["faces"]) for row in parsed]
    assert counts[:3] == [1, 2, 0] and counts[2::3] == [0] * 4 and min(counts[::3] + counts[1::3]) > 0
    assert "2b.jpg is not a picture" in messages[0][0] and "0.png is not a picture" in messages[0][1]


def test_rows_are_those_of_threads_within_the_models(folder: Path, tmp_path: Path) -> None:
    """How one picture runs, and how every picture ran before there were workers."""
    texts = []
    for workers, threads in ((1, 2), (2, 1)):
        rows = tmp_path / f"{workers}.jsonl"
        with (
            Pipeline.load(threads=threads) as pipeline,
            Predictor(pipeline, json_target=str(rows), workers=workers) as predictor,
        ):
            predictor.run([folder])
        texts.append(rows.read_bytes())
    assert texts[0] == texts[1] and texts[0].count(b"\n") == 12


def test_drawn_pictures_have_the_same_names_and_pixels(folder: Path, tmp_path: Path) -> None:
    for threads in (1, 3):
        mien("predict", folder, "--threads", threads, "--json", "-", "--draw", tmp_path / str(threads), code=2)
    one, three = (sorted((tmp_path / n).iterdir()) for n in "13")
    assert [p.name for p in one] == [p.name for p in three] and len(one) == 12 and one[1].name == "0.jpg"
    assert all(a.read_bytes() == b.read_bytes() for a, b in zip(one, three, strict=True))


def test_pictures_are_not_drawn_among_the_inputs(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = sorted(folder.rglob("*"))
    (tmp_path / "link").symlink_to(folder)
    monkeypatch.chdir(tmp_path)
    for draw in (folder / "drawn", folder, Path("link") / "a" / "b", Path("photos/first/../drawn")):
        told = " ".join(mien("predict", tmp_path / "none.jpg", folder, "--draw", draw, code=2).stderr.split())
        assert "is inside the input" in told and "--draw" in told
    assert sorted(folder.rglob("*")) == before
    (tmp_path / "loop").symlink_to("loop")
    told = mien("predict", folder, "--draw", tmp_path / "loop" / "drawn", code=2).stderr
    assert "error: cannot create the folder" in told and "Traceback" not in told
    mien("predict", folder / "first" / "0.jpg", "--draw", folder / "drawn")  # a file's neighbours are no inputs
    mien("predict", folder / "first", "--draw", tmp_path / "photos" / "first drawn", code=2)


def test_an_input_is_not_drawn_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    picture, clip = tmp_path / "a.png", write_clip(tmp_path / "c.mp4", demo_frames(3))
    cv2.imwrite(str(picture), demo_frames(1)[0])
    before = picture.read_bytes(), clip.read_bytes()
    mien("predict", "a.png", clip, "--draw", tmp_path / "." / "x" / "..")
    assert (picture.read_bytes(), clip.read_bytes()) == before
    assert (tmp_path / "a-2.png").is_file() and (tmp_path / "c-2.mp4").is_file()


def test_a_broken_link_in_a_folder_is_told(folder: Path) -> None:
    (folder / "first" / "9.jpg").symlink_to("nowhere")
    assert f"no file {folder}/first/9.jpg" in mien("predict", folder / "first", code=2).stderr.replace("\n", "")


def test_a_picture_beyond_what_opencv_reads_is_told_in_one_line(tmp_path: Path) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    parts = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    (tmp_path / "huge.png").write_bytes(b"\x89PNG\r\n\x1a\n" + parts)
    with pytest.raises(InputError, match=r"huge\.png cannot be read \(OpenCV: ") as told:
        read_image(tmp_path / "huge.png")
    assert "\n" not in str(told.value) and ".cpp" not in str(told.value)


def test_videos_stand_between_the_pictures(folder: Path, tmp_path: Path, clip: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_text("no video")
    inputs = [folder / "first" / "0.jpg", clip, broken, folder / "second" / "1.jpg", folder / "second" / "2.jpg"]
    texts = []
    for threads in (1, 2):
        result = mien("predict", *inputs, "--threads", threads, "--json", "-", code=2)
        texts.append(result.stdout)
        assert "broken.mp4" in result.stderr
    rows = [json.loads(line) for line in texts[0].splitlines()]
    assert texts[0] == texts[1]
    assert [Path(r["image"]).name for r in rows] == ["0.jpg", *["clip.mp4"] * 5, "1.jpg", "2.jpg"]


def test_progress_counts_every_input_once(folder: Path, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    with (
        Pipeline.load(threads=1) as pipeline,
        Predictor(pipeline, json_target=str(tmp_path / "r.jsonl"), workers=2) as predictor,
    ):
        predictor.run([folder], progress=lambda done, total: told.append((done, total)))
    assert told == [(n, 14) for n in range(1, 15)] and len(predictor.failures) == 2


def test_an_error_of_a_worker_reaches_the_caller(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(RuntimeError):
        pass

    def fail(runner: Runner, image: Image, faces: Faces) -> Faces:
        if len(faces):
            raise Broken
        return faces

    rows = tmp_path / "r.jsonl"
    with Pipeline.load(threads=1) as pipeline:
        monkeypatch.setattr("mien.runtime.pipeline.pipeline.locate_in_boxes", fail)
        with (
            pytest.raises(Broken),
            Predictor(pipeline, json_target=str(rows), workers=2) as predictor,
        ):
            predictor.run([folder / "first" / "2.jpg", folder / "first" / "0.jpg", folder / "first" / "5.jpg"])
    assert not rows.exists()  # a file is whole or not there


def test_a_full_disk_ends_the_run(folder: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    with (
        Pipeline.load(threads=1) as pipeline,
        Predictor(pipeline, json_target="/dev/full", workers=2) as predictor,
        pytest.raises(OutputError, match="No space left"),
    ):
        predictor.run([folder])


def many(folder: Path, tmp_path: Path) -> Path:
    """Four hundred names of one picture: more than is done before a signal comes."""
    names = tmp_path / "many"
    names.mkdir()
    for n in range(400):
        (names / f"{n:03d}.jpg").symlink_to(folder / "first" / "1.jpg")
    return names


def test_ctrl_c_leaves_whole_rows(folder: Path, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    command = [*MIEN, "predict", many(folder, tmp_path), "--threads", 2, "--json", rows]
    with started(*command, stderr=subprocess.PIPE) as process:
        wait_for(lambda: any(path.read_bytes().count(b"\n") > 3 for path in tmp_path.glob(".mien-*.jsonl")))
        assert not rows.exists()
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
    assert not list(tmp_path.glob(".*"))
    text = rows.read_text()
    names = [Path(json.loads(line)["image"]).stem for line in text.splitlines()]
    assert process.returncode == 130, stderr
    assert re.fullmatch(rf"{len(names)} pictures, \d+ faces?, \S+ s\ninterrupted\n", stderr)
    assert text.endswith("\n") and 3 < len(names) < 400 and names == [f"{n:03d}" for n in range(len(names))]


def test_a_reader_that_has_had_enough_ends_the_run(folder: Path, tmp_path: Path) -> None:
    command = [*MIEN, "predict", many(folder, tmp_path), "--threads", 2, "--json", "-"]
    with started(*command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        assert json.loads(process.stdout.readline())["faces"]
        process.stdout.close()
        assert process.wait(timeout=60) == 0 and process.stderr.read().count("\n") == 1  # the summary


def test_drawings_replace_nothing(folder: Path, tmp_path: Path) -> None:
    """Neither an input, nor what lies in the folder, nor each other, nor the rows; a link is not followed."""
    photo, drawn = find_photo()[0].read_bytes(), tmp_path / "drawn"
    drawn.mkdir()
    inputs = [
        tmp_path / "a" / "x.jpg",
        tmp_path / "b" / "x.jpg",
        drawn / "y.jpg",
        tmp_path / "z.jpg",
        tmp_path / "r.jpg",
    ]
    for path in inputs:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(photo)
    (drawn / "x.jpg").write_text("mine")
    (drawn / "z.jpg").symlink_to(tmp_path / "z.jpg")
    with (
        Pipeline.load(threads=1) as pipeline,
        Predictor(pipeline, json_target=str(drawn / "r.jpg"), outputs=Outputs(draw=drawn), workers=2) as predictor,
    ):
        predictor.run(inputs)
    assert not predictor.failures and all(path.read_bytes() == photo for path in inputs)
    assert (drawn / "x.jpg").read_text() == "mine" and len((drawn / "r.jpg").read_text().splitlines()) == 5
    made = {path.name for path in drawn.iterdir()} - {"x.jpg", "y.jpg", "z.jpg", "r.jpg"}
    assert made == {"x-2.jpg", "x-3.jpg", "y-2.jpg", "z-2.jpg", "r-2.jpg"}
    assert all(cv2.imread(str(drawn / name)) is not None for name in made)


def test_many_pictures_of_one_name_are_named_in_linear_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[object] = []
    lexists = os.path.lexists
    monkeypatch.setattr(os.path, "lexists", lambda path: looked.append(path) or lexists(path))
    files = NewFiles(tmp_path, set())
    (tmp_path / "a-7.jpg").touch()
    names = []
    for n in range(200):
        with files.named(Path(f"{n}/a.png"), ".jpg") as path:
            path.touch()
        names.append(path.name)
    assert names == ["a.jpg", *(f"a-{n}.jpg" for n in range(2, 202) if n != 7)]
    assert len(looked) < 650


def test_runs_at_the_same_time_share_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = NewFiles(tmp_path, ()), NewFiles(tmp_path, ())
    source, lexists = Path("100GOPRO/a.mp4"), os.path.lexists
    with one.named(source, ".mp4") as first, other.named(source, ".mp4") as second:
        second.write_bytes(b"video")
        with one.named(source, ".mp4") as third:
            assert [path.name for path in (first, second, third)] == ["a.mp4", "a-2.mp4", "a-3.mp4"]

    def written_meanwhile(path: Path) -> bool:
        found = lexists(path)
        (tmp_path / "b.jpg").write_bytes(b"of another process")
        return found

    monkeypatch.setattr(os.path, "lexists", written_meanwhile)
    with pytest.raises(InputError), one.named(Path("b.jpg"), ".jpg") as path:
        raise InputError(path.name)
    assert path.name == "b-2.jpg"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a-2.mp4", "b.jpg"]


def test_every_frame_of_an_animation_is_a_row(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    photo = read_image(find_photo()[0])
    frames = [image.fromarray(np.ascontiguousarray(p[..., ::-1])) for p in (np.full_like(photo, 80), photo)]
    frames[0].save(tmp_path / "pages", "TIFF", save_all=True, append_images=frames[1:])
    text = mien("predict", tmp_path / "pages", "--draw", tmp_path / "drawn", "--json", "-").stdout
    rows = [json.loads(line) for line in text.splitlines()]
    assert [(row["frame"], len(row["faces"])) for row in rows] == [(0, 0), (1, 1)]
    assert sorted(p.name for p in (tmp_path / "drawn").iterdir()) == ["pages-0.png", "pages-1.png"]


def test_odd_names_are_only_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    photo = cv2.imencode(".png", read_image(find_photo()[0]))[1].tobytes()
    names = ["12:30.mp4", "a\nb", "\udcff.jpg", "n" * 250, "-"]
    for name in names:
        Path(name).write_bytes(photo)
    rows = [json.loads(line) for line in mien("predict", *names, "--draw", "drawn", "--json", "-").stdout.splitlines()]
    assert [row["image"] for row in rows] == names and all(len(row["faces"]) == 1 for row in rows)
    drawn = {path.name for path in Path("drawn").iterdir()}
    assert drawn == {"12:30.png", "a\nb.png", "\udcff.png", "n" * 200 + ".png", "-.png"}
    mien("predict", "\udcff.jpg", "--csv", "faces.csv")
    assert Path("faces.csv").read_text("utf-8").splitlines()[1].startswith(r"\udcff.jpg,")
    for name, told in (("", "empty name"), ("x\ny", r"no file x\ny"), ("n" * 300, "File name too long")):
        stderr = mien("predict", name, code=2).stderr
        assert told in stderr and stderr.count("\n") == 1


def test_a_video_named_as_a_source_is_a_video(tmp_path: Path, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("0", "-"):
        Path(name).write_bytes(clip.read_bytes())
        text = mien("predict", f"./{name}", "--no-attributes", "--json", "-").stdout
        assert [json.loads(line)["image"] for line in text.splitlines()] == [name] * 5


def test_a_text_is_refused_and_a_video_is_one_under_any_name(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("words\n" * 100)
    assert "holds text" in mien("predict", tmp_path / "notes.txt", code=2).stderr
    write_clip(tmp_path / "a.avi", [np.zeros((48, 64, 3), np.uint8)] * 3).rename(tmp_path / "a.jpg")
    assert mien("predict", tmp_path / "a.jpg", "--json", "-").stdout.count("timestamp_ns") == 3


def test_without_outputs_a_line_tells_what_was_found(folder: Path, tmp_path: Path, clip: Path) -> None:
    inputs = (folder / "first" / "1.jpg", folder / "first" / "2.jpg", clip, folder / "second")
    result = mien("predict", *inputs, "--min-score", 0.5, code=2)
    lines = result.stdout.splitlines()
    assert re.fullmatch(r".*first/1\.jpg: 2 faces \(\d+ ± \d+ years, (fe)?male; \d+ ± \d+ years, (fe)?male\)", lines[0])
    assert lines[1].endswith("first/2.jpg: 0 faces") and lines[2].endswith(
        "clip.mp4: 5 frames, at most 1 face at a time"
    )
    assert len(lines) == 9
    told = re.search(r"8 pictures and 1 video, (\d+) faces in pictures, \d+\.\d s", result.stderr)
    assert told and int(told[1]) == sum(int(line.split(": ")[1].split()[0]) for line in lines if "frames" not in line)


def test_other_outputs_leave_standard_output_alone(folder: Path, tmp_path: Path) -> None:
    photo = folder / "first" / "0.jpg"
    for output in (
        ("--csv", "r.csv"),
        ("--json", "r.jsonl"),
        ("--draw", "d"),
        ("--save-crops", "c"),
        ("--view3d", "v.html"),
    ):
        result = mien("predict", photo, output[0], tmp_path / output[1])
        assert result.stdout == "" and (tmp_path / output[1]).exists()
        assert "1 picture, 1 face, " in result.stderr


def test_csv_has_the_values_of_the_rows(folder: Path, tmp_path: Path, clip: Path) -> None:
    outputs = ("--json", tmp_path / "r.jsonl", "--csv", tmp_path / "r.csv")
    mien("predict", folder / "first" / "1.jpg", clip, "--min-score", 0.5, *outputs)
    rows = [json.loads(line) for line in (tmp_path / "r.jsonl").read_text().splitlines()]
    expected = [(row, face) for row in rows for face in row["faces"]]
    with (tmp_path / "r.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == len(expected) >= 7
    for line, (row, face) in zip(lines, expected, strict=True):
        assert line["image"] == row["image"] and line["frame"] == str(row.get("frame", ""))
        assert float(line["box_x1"]) == face["box"][0] and float(line["yaw"]) == face["pose"]["yaw"]
        assert [float(line[f"{axis}67"]) for axis in "xyz"] == face["landmarks"][67]
    before = (tmp_path / "r.csv").read_bytes()
    assert "would overwrite" in mien("predict", tmp_path / "r.csv", "--csv", tmp_path / "r.csv", code=2).stderr
    assert (tmp_path / "r.csv").read_bytes() == before


def test_drawn_pictures_keep_their_format(tmp_path: Path) -> None:
    photo = read_image(find_photo()[0])
    names = ("a.jpg", "b.JPEG", "c.png", "d.bmp", "e.webp", "f")
    for name in names:
        (tmp_path / name).write_bytes(cv2.imencode(Path(name).suffix or ".jpg", photo)[1].tobytes())
    mien(
        "predict",
        *(tmp_path / n for n in ("a.jpg", "b.JPEG", "c.png", "d.bmp", "e.webp", "f")),
        "--draw",
        tmp_path / "o",
    )
    kinds = {path.name: kind_of_file(path) for path in (tmp_path / "o").iterdir()}
    jpeg, png = FileKind.JPEG, FileKind.PNG
    assert kinds == {"a.jpg": jpeg, "b.JPEG": jpeg, "c.png": png, "d.png": png, "e.webp": FileKind.WEBP, "f.jpg": jpeg}
    assert (tmp_path / "o" / "a.jpg").stat().st_size < 1.5 * (tmp_path / "a.jpg").stat().st_size


def test_crops_are_upright_and_replace_nothing(folder: Path, tmp_path: Path, clip: Path) -> None:
    photo, out = read_image(find_photo()[0]), tmp_path / "crops"
    tilted = cv2.warpAffine(photo, cv2.getRotationMatrix2D((256, 200), 25, 0.8), (512, 600))
    cv2.imwrite(str(tmp_path / "tilted.png"), tilted)
    out.mkdir()
    (out / "1-face0.jpg").write_text("mine")
    mien("predict", folder / "first" / "1.jpg", tmp_path / "tilted.png", clip, "--min-score", 0.5, "--save-crops", out)
    names = {"1-face0.jpg", "1-face0-2.jpg", "1-face1.jpg", "tilted-face0.png", "clip-track0.jpg"}
    assert {path.name for path in out.iterdir()} == names and (out / "1-face0.jpg").read_text() == "mine"
    with Pipeline.load(attributes=False, threads=1) as pipeline:
        for name in names - {"1-face0.jpg"}:
            crop = read_image(out / name)
            faces = pipeline(crop)
            assert crop.shape[0] == crop.shape[1] > 50 and len(faces) == 1
            assert abs(roll_of(faces.landmarks)[0]) < 0.12, name
    assert "is inside the input" in mien("predict", folder, "--save-crops", folder / "c", code=2).stderr


def test_a_face_without_landmarks_is_cut_out_by_its_box() -> None:
    picture = np.arange(100 * 120 * 3, dtype=np.uint8).reshape(100, 120, 3)
    faces = Faces.from_boxes(np.array([[90.0, 20, 130, 60], [10, 10, 30, 50]]), np.ones(2))
    assert np.array_equal(face_crop(picture, faces, 0), picture[12:68, 82:])
    assert np.array_equal(face_crop(picture, faces, 1), picture[2:58, 6:34])


@pytest.mark.parametrize("box", [(200.0, 20, 230, 60), (10, 300, 30, 400), (-90, -90, -50, -50), (150, 120, 150, 120)])
def test_a_face_outside_the_picture_is_cut_out_at_its_edge(box: tuple[float, ...]) -> None:
    picture = np.arange(100 * 120 * 3, dtype=np.uint8).reshape(100, 120, 3)
    crop = face_crop(picture, Faces.from_boxes(np.array([box]), np.ones(1)), 0)
    assert crop.size and min(crop.shape[:2]) == 1


def test_the_best_view_of_a_track_is_kept() -> None:
    best = TrackCrops()
    for value, side in ((1, 20.0), (2, 40.0), (3, 30.0), (4, 41.0)):
        picture = np.full((100, 100, 3), value, np.uint8)
        faces = Faces.from_boxes(np.array([[10.0, 10, 10 + side, 10 + side]]), np.ones(1))
        best.update(picture, faces.with_fields(track_id=np.array([7])))
    ((track, crop),) = best.crops().items()
    assert track == 7 and crop.shape == (56, 56, 3) and (crop == 2).all()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--blur", "--draw", "d", "--save-crops", "c"), "--view3d and --save-crops show the faces that --blur hides"),
        (("--ray", "local", "--json", "r", "--csv", "r.csv"), "omit --csv, --draw, --save-crops and --view3d"),
    ],
)
def test_outputs_that_exclude_each_other(arguments: tuple[str, ...], told: str) -> None:
    assert told in mien("predict", "x.jpg", *arguments, code=2).stderr
