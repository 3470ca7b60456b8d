"""The command line as a user meets it: what it prints, what it leaves behind, and its exit codes."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner, Result

from mien.cli import app
from mien.runtime.capture.demo_camera import DemoCamera, find_photo
from mien.runtime.models.shipped import shipped_model
from mien.tests.clips import demo_frames, write_clip
from mien.tests.missing_library import skip_without_library
from mien.tests.processes import MIEN, started, wait_for

run = CliRunner()


def mien(*arguments: object, code: int = 0) -> Result:
    result = run.invoke(app, [str(a) for a in arguments])
    skip_without_library(result)
    assert result.exit_code == code, f"{result.output}\n{result.exception!r}"
    return result


def one_line(result: Result) -> str:
    """The error, which is one line however narrow the terminal."""
    lines = [line for line in result.stderr.splitlines() if line.strip()]
    assert len(lines) == 1 and lines[0].startswith(("error:", "skipped:")), result.stderr
    return lines[0]


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """Twenty frames of the demo camera as a video file."""
    return write_clip(tmp_path / "clip.mp4", demo_frames(20))


def frames_of(path: Path) -> int:
    video = cv2.VideoCapture(str(path))
    count = 0
    while video.read()[0]:
        count += 1
    video.release()
    return count


@pytest.mark.parametrize(
    "command",
    [
        [],
        ["train"],
        ["train", "landmarks"],
        ["train", "age-gender"],
        ["train", "classify"],
        ["train", "detector"],
        ["export"],
        ["predict"],
        ["webcam"],
        ["bench"],
        ["bench", "compare"],
        ["evaluate"],
        ["evaluate", "landmarks"],
        ["evaluate", "age-gender"],
        ["evaluate", "classify"],
        ["evaluate", "detector"],
        ["info"],
        ["doctor"],
    ],
)
def test_every_command_helps_with_an_example(command: list[str]) -> None:
    text = mien(*command, "--help").output
    assert mien(*command, "-h").output == text
    if command in ([], ["train"], ["evaluate"]):
        assert "Commands" in text and "Usage: mien" in text
    else:
        assert f"mien {' '.join(command)} " in text.split("Usage:")[1].split("\n", 1)[1]


def test_the_help_of_a_training_shows_the_defaults_of_its_task() -> None:
    told = {}
    for task in ("landmarks", "classify"):
        shown = run.invoke(app, ["train", task, "--help"], env={"COLUMNS": "160"}).output
        told[task] = re.sub(r"\x1b\[[\d;]*m|[\s│]", "", shown)
    assert "(60;" in told["landmarks"] and "backbone:30)" in told["landmarks"]
    assert "Passesoverthetrainingdata.[default:(30)]" in told["classify"]


def test_webcam_writes_a_video_rows_and_stats(clip: Path, tmp_path: Path) -> None:
    video, rows, stats = tmp_path / "out.mp4", tmp_path / "rows.jsonl", tmp_path / "stats.json"
    mien("webcam", clip, "--no-show", "--output", video, "--json", rows, "--stats", stats)
    assert frames_of(video) == 20
    parsed = [json.loads(line) for line in rows.read_text().splitlines()]
    assert [row["frame"] for row in parsed] == list(range(20))
    assert all(len(row["faces"]) == 1 and len(row["faces"][0]["landmarks"]) == 68 for row in parsed)
    assert {row["faces"][0]["track_id"] for row in parsed} == {0}
    summary = json.loads(stats.read_text())
    assert summary["frames"] == {"read": 20, "processed": 20, "dropped": 0, "unwritten": 0}
    assert summary["provider"] == "cpu"
    assert {"capture", "detect", "landmarks", "draw", "write", "process", "end_to_end"} <= set(summary["stages"])
    assert not list(tmp_path.glob("*partial*"))


def test_landmarks_follow_the_demo_face(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    mien("webcam", "demo", "--no-show", "--json", rows, "--max-frames", 40)
    camera = DemoCamera()
    for line in rows.read_text().splitlines():
        row = json.loads(line)
        corners = camera.face_corners(row["frame"])
        points = np.array(row["faces"][0]["landmarks"])[:, :2]
        slack = 0.15 * np.ptp(corners[:, 0])
        assert (points > corners.min(axis=0) - slack).all() and (points < corners.max(axis=0) + slack).all()
        right, left = points[36:42].mean(axis=0), points[42:48].mean(axis=0)
        assert 0.25 < np.linalg.norm(left - right) / np.ptp(corners[:, 0]) < 0.6


def test_predict_reports_bad_files_and_goes_on(tmp_path: Path) -> None:
    photo, _ = find_photo()
    (tmp_path / "a.jpg").write_bytes(photo.read_bytes())
    (tmp_path / "bad.jpg").write_bytes(photo.read_bytes()[:60])
    (tmp_path / "empty.png").touch()
    drawn = tmp_path.with_name(f"{tmp_path.name}-drawn")
    result = mien("predict", tmp_path, tmp_path / "missing.jpg", "--draw", drawn, "--json", "-", code=2)
    (row,) = [json.loads(line) for line in result.stdout.splitlines()]
    assert row["image"].endswith("a.jpg") and len(row["faces"]) == 1
    for name in ("bad.jpg", "empty.png", "missing.jpg"):
        assert name in result.stderr
    assert cv2.imread(str(drawn / "a.jpg")) is not None


def test_predict_reads_videos(clip: Path) -> None:
    rows = [json.loads(line) for line in mien("predict", clip, "--json", "-").stdout.splitlines()]
    assert len(rows) == 20 and rows[3]["frame"] == 3 and rows[3]["timestamp_ns"] == 100_000_000


def test_a_video_that_ends_early_says_so(tmp_path: Path) -> None:
    pytest.importorskip("av")
    avi = write_clip(tmp_path / "long.avi", demo_frames(20))
    avi.write_bytes(avi.read_bytes()[: avi.stat().st_size // 2])
    result = mien("webcam", avi, "--no-show", "--output", tmp_path / "out.mp4", code=2)
    assert "its end is missing" in result.stderr
    assert 0 < frames_of(tmp_path / "out.mp4") < 20


def test_control_characters_of_a_name_are_escaped_in_the_log(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((32, 32, 3), np.uint8))
    (tmp_path / "b\x1b[31m\nc.png").write_text("no picture")
    told = mien("webcam", tmp_path, "--no-show", code=2).stderr
    assert "\x1b" not in told and r"/b\x1b[31m\nc.pngisnotapicture" in "".join(told.split())


def test_info_of_shipped_models() -> None:
    from mien.runtime.models.shipped import WEIGHTS

    total = 0
    for name in ("landmarks", "detector"):
        row = json.loads(mien("info", WEIGHTS / f"{name}.onnx", "--json").stdout)
        assert row["task"] == name and row["provider"] == "cpu" and row["precision"] == "fp32"
        total += row["size_bytes"]
    assert total <= 8_000_000


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["predict", "nothing.jpg"], "no file nothing.jpg"),
        (["webcam", "nothing.mp4", "--no-show"], "nothing.mp4"),
        (["webcam", "demo", "--no-show", "--output", "no/where.mp4"], "no folder no"),
        (["webcam", "demo", "--no-show", "--output", "out.xyz"], "expected one of .mp4"),
        (["webcam", "demo", "--no-show", "--json", "/"], "is a folder"),
        (["webcam", "demo", "--no-show", "--provider", "cuda"], "CUDA"),
        (["info", "nothing.onnx"], "no model nothing.onnx"),
        (["export", "nothing.pt", "-o", "m.onnx"], "no checkpoint nothing.pt"),
        (["evaluate", "landmarks", "--data", "."], "contains neither landmarks.csv nor"),
        (["evaluate", "detector", "--data", "."], "no pictures"),
        (["train", "landmarks", "--data", "."], "contains neither landmarks.csv nor"),
        (["bench", "--batch", "1,x"], "--batch expects integers"),
        (["bench", "--provider", "gpu"], "--provider expects one or more of auto, cpu"),
    ],
)
def test_misuse_is_one_line_and_leaves_nothing(
    arguments: list[str], reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert reason in one_line(mien(*arguments, code=2))
    assert not list(tmp_path.iterdir())


def test_native_libraries_add_no_lines(tmp_path: Path) -> None:
    """Only a process of its own shows what OpenCV and FFmpeg write past Python."""
    (tmp_path / "text.mp4").write_text("no video")
    command = [*MIEN, "webcam", "text.mp4", "--no-show"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 2 and done.stdout == ""
    assert len(done.stderr.splitlines()) == 1 and done.stderr.startswith("error: text.mp4"), done.stderr


def test_ctrl_c_leaves_files_that_play(tmp_path: Path) -> None:
    video, rows = tmp_path / "out.mp4", tmp_path / "rows.jsonl"
    command = [*MIEN, "webcam", "demo", "--no-show", "--output", video, "--json", rows]
    with started(*command, stderr=subprocess.PIPE) as process:
        wait_for(lambda: any(path.read_text().count("\n") > 5 for path in tmp_path.glob(".mien-*.jsonl")))
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    count = len([json.loads(line) for line in rows.read_text().splitlines()])
    assert frames_of(video) > 5 and count > 5
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.mp4", "rows.jsonl"]


def test_a_full_disk_is_one_line() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    for command in (["webcam", "demo", "--no-show", "--max-frames", "3"], ["predict", find_photo()[0]]):
        assert "cannot write /dev/full (No space left" in one_line(mien(*command, "--json", "/dev/full", code=2))


def test_unknown_backbone_names_the_known_ones(landmark_folder: Path) -> None:
    result = mien("train", "landmarks", "--data", landmark_folder, "--backbone", "resnet19", code=2)
    assert "unknown backbone 'resnet19'; known: mobilenet_v2" in one_line(result)


def test_foreign_models_are_told_apart(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    node = onnx.helper.make_node("Identity", ["x"], ["y"])
    x, y = (onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [1]) for n in "xy")
    foreign = onnx.helper.make_model(
        onnx.helper.make_graph([node], "g", [x], [y]), opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10
    )
    path = tmp_path / "foreign.onnx"
    onnx.save(foreign, path)
    assert "carries no mien metadata" in one_line(mien("info", path, code=2))
    assert "neither a mien detector nor a YuNet file" in one_line(mien("predict", "x.jpg", "--detector", path, code=2))
    path.write_bytes(b"not a model")
    assert "not a model that ONNX Runtime can load" in one_line(mien("info", path, code=2))


def test_a_foreign_file_is_converted_to_fp16_alone(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    node = onnx.helper.make_node("MatMul", ["x", "w"], ["y"])
    x, y = (onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, ["n", 64]) for n in "xy")
    weights = onnx.numpy_helper.from_array(np.eye(64, dtype=np.float32), "w")
    foreign = onnx.helper.make_model(
        onnx.helper.make_graph([node], "g", [x], [y], [weights]),
        opset_imports=[onnx.helper.make_opsetid("", 18)],
        ir_version=10,
    )
    path, half, feed = tmp_path / "any.onnx", tmp_path / "half.onnx", tmp_path / "feed.npz"
    onnx.save(foreign, path)
    np.savez(feed, x=np.random.default_rng(0).normal(size=(3, 2, 64)).astype(np.float32))
    told = mien("export", path, "-o", half, "--precision", "fp16", "--inputs", feed).stderr
    assert "parity check passed: y 0.0" in told and "% of its largest value (tolerance 2); compared on 3 calls" in told
    assert "half.onnx: 0.01 MB, from 0.02; next: mien bench" in told and half.is_file()
    assert "it is unknown how to prepare" in one_line(mien("export", path, "-o", half, "--precision", "int8", code=2))
    assert "is for a file without mien's metadata" in one_line(
        mien("export", shipped_model("landmarks"), "-o", half, "--inputs", feed, code=2)
    )


def test_no_window_without_a_display(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert "no display" in one_line(mien("webcam", "demo", code=2))


def test_evaluate_landmarks_has_the_stable_keys(landmark_folder: Path) -> None:
    row = json.loads(mien("evaluate", "landmarks", "--data", landmark_folder, "--json").stdout)
    assert row["task"] == "landmarks" and row["count"] == 24
    assert {"model", "nme", "auc8", "fr8", "by_source"} <= set(row)
    assert row["by_source"]["drawn"]["count"] == 12 and set(row["by_source"]["drawn"]) == {
        "count",
        "nme",
        "auc8",
        "fr8",
    }
    assert "By source" in mien("evaluate", "landmarks", "--data", landmark_folder, "--held-out").stdout


def test_evaluate_detector_on_a_photograph(tmp_path: Path) -> None:
    photo, info = find_photo()
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / photo.name).write_bytes(photo.read_bytes())
    x0, y0, x1, y1 = info.face
    (tmp_path / "boxes.csv").write_text(f"file,x,y,w,h\n{photo.name},{x0},{y0},{x1 - x0},{y1 - y0}\n")
    row = json.loads(mien("evaluate", "detector", "--data", tmp_path, "--json").stdout)
    assert row["ap50"] == 100.0 and row["recall"] == 100.0


def test_bench_prints_a_table_and_keeps_raw_values(tmp_path: Path) -> None:
    quick = ["--baseline", "none", "--rounds", 2, "--calls-per-round", 2, "--json", tmp_path / "b.json"]
    result = mien("bench", shipped_model("landmarks"), *quick)
    cells = [[c.strip() for c in line.split("|")] for line in result.stdout.splitlines()]
    assert any(row[1:5] == ["landmarks", "fp32", "cpu", "1"] for row in cells)
    report = json.loads((tmp_path / "b.json").read_text())
    processes = report["rows"][0]["measurement"]["processes"]
    assert report["format"] == "mien-bench" and [len(run["latencies_ns"]) for run in processes] == [1, 1]


def test_summary_needs_no_data_and_training_does() -> None:
    totals = json.loads(mien("train", "age-gender", "--backbone", "vgg16", "--summary", "--json").stdout)
    assert totals["parameters"] == 18_197_634 and totals["trainable"] == 3_482_946
    table = mien("train", "classify", "--backbone", "reslayer", "--weights", "none", "--summary").stdout
    assert "stages.0.3.conv.0" in table and "Conv2d" in table and "multiply_adds" in table
    assert "--data FOLDER is needed" in one_line(mien("train", "landmarks", "--weights", "none", code=2))
    odd = one_line(mien("train", "detector", "--weights", "none", "--input-size", "336", "--summary", code=2))
    assert "expected an --input-size that is a multiple of 32, found 336" in odd


def test_a_classifier_trains_in_two_processes_and_goes_all_the_way(class_folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    out = tmp_path / "run"
    command = [sys.executable, "-m", "mien.cli", "train", "classify", "--data", class_folder, "--backbone", "reslayer"]
    options = ["--weights", "none", "--input-size", "32", "--epochs", "2", "--batch-size", "4", "--workers", "0"]
    done = subprocess.run(
        [*command, *options, "--devices", "2", "--out", out], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("epoch 2:") == 1 and "MEMBER: 2/2" in done.stderr  # only the first process speaks
    assert set(json.loads(done.stdout)) == {"checkpoint", "val_loss", "accuracy"}
    model = tmp_path / "shapes.onnx"
    mien("export", out / "best.pt", "-o", model, "--data", class_folder)
    measured = json.loads(mien("evaluate", "classify", "--model", model, "--data", class_folder, "--json").stdout)
    assert measured["count"] == 32 and set(measured["by_class"]) == {"disc", "square"}
    rows = mien("predict", class_folder / "disc", "--model", model, "--json", "-").stdout.splitlines()
    row = json.loads(rows[0])
    told = mien("predict", class_folder / "disc", "--model", model, "--draw", tmp_path / "drawn")
    assert told.stdout == "" and "16 pictures" in told.stderr and len(list((tmp_path / "drawn").iterdir())) == 16
    for path in sorted((class_folder / "disc").iterdir())[:3]:
        before, after = cv2.imread(str(path)), cv2.imread(str(tmp_path / "drawn" / path.with_suffix(".png").name))
        assert (after != before).any(axis=2)[:12].sum() > 20
    line = mien("predict", path, "--model", model).stdout
    assert line.startswith(f"{path}: ") and line.count(" %") == 2 and " disc " in line and " square " in line
    assert len(rows) == 16 and sum(row["classes"].values()) == pytest.approx(1, abs=1e-3)
    assert row["class"] == max(row["classes"], key=row["classes"].get)


def test_evaluate_age_gender_has_the_stable_keys(age_gender_folder: Path) -> None:
    measured = json.loads(mien("evaluate", "age-gender", "--data", age_gender_folder, "--json").stdout)
    assert {"count", "mae_years", "cs5", "gender_accuracy", "by_decade", "gender_calibration_error"} <= set(measured)
    assert measured["count"] == 40 == sum(d["count"] for d in measured["by_decade"].values())


def test_predict_tells_ages_and_shows_faces_in_3d(tmp_path: Path) -> None:
    photo, page = find_photo()[0], tmp_path / "faces.html"
    (face, *_) = json.loads(mien("predict", photo, "--view3d", page, "--json", "-").stdout)["faces"]
    assert 5 < face["age"] < 95 and 0 <= face["female"] <= 1
    text = page.read_text(encoding="utf-8")
    assert "webgl2" in text and '"triangles":[[' in text and "<script src=" not in text  # works without a network
    (face, *_) = json.loads(mien("predict", photo, "--no-attributes", "--json", "-").stdout)["faces"]
    assert face["age"] is None and face["female"] is None
    blank = tmp_path / "blank.png"
    cv2.imwrite(str(blank), np.zeros((64, 64, 3), np.uint8))
    assert "no picture has a face" in mien("predict", blank, "--view3d", tmp_path / "none.html", code=2).stderr
    assert not (tmp_path / "none.html").exists()
    assert "1 picture, 0 faces, " in mien("predict", blank).stderr


def test_bench_reports_are_compared_and_a_slowdown_fails(tmp_path: Path) -> None:
    old, new = tmp_path / "old.json", tmp_path / "new.json"
    options = ["--baseline", "none", "--rounds", "6", "--calls-per-round", "2", "--processes", "1", "--json"]
    mien("bench", shipped_model("landmarks"), *options, old)
    slower = json.loads(old.read_text())
    for path, factor in ((old, 1.0), (new, 1.5)):  # made-up latencies: what was measured depends on other processes
        for row in slower["rows"]:
            for run in row["measurement"]["processes"]:
                rounds = run["latencies_ns"]
                run["latencies_ns"] = [[int(factor * (6_000_000 + 1000 * n)) for n in range(len(r))] for r in rounds]
        path.write_text(json.dumps(slower))
    assert "+0.0%" in mien("bench", "compare", old, old).stdout
    told = mien("bench", "compare", old, new, "--fail-if", "p50>+20%", code=1).stderr
    assert "p50 +50.0%" in told and "breaks p50>+20%" in told
    changes = json.loads(mien("bench", "compare", old, new, "--fail-if", "p50>+90%", "--json").stdout)
    assert changes[0]["value"] == pytest.approx(1.5, abs=1e-3)
    slower["environment"]["cpu"] = "another"
    new.write_text(json.dumps(slower))
    assert "cpu was" in one_line(mien("bench", "compare", old, new, code=2))
    assert "expected a rule" in one_line(mien("bench", "compare", old, old, "--fail-if", "fast", code=2))
    assert "no report" in one_line(mien("bench", "compare", old, tmp_path / "none.json", code=2))


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (
            ["train", "landmarks", "--recipe", "chapter", "--init-from", __file__, "--light-augmentation"],
            "does not take --init-from, --light-augmentation",
        ),
        (["train", "age-gender", "--age-weight", "0"], "above 0"),
        (["webcam", "--csv", "-", "--no-show"], "--csv -: only --json of predict and webcam accepts -"),
        (["predict", "x.jpg", "--csv", "-"], "--csv -: only --json of predict and webcam accepts -"),
        (["predict", "x.jpg", "--view3d", "-"], "--view3d -: only --json of predict and webcam accepts -"),
        (["predict", "x.jpg", "--draw", "-"], "--draw -: only --json of predict and webcam accepts -"),
        (["predict", "x.jpg", "--save-crops", "-"], "--save-crops -: only --json of predict and webcam accepts -"),
        (["webcam", "--csv", "x", "--json", "x", "--no-show"], "--json and --csv name one file"),
        (["export", "x.pt", "-o", "y.onnx", "--allow-slow"], "are for --precision int8"),
        (["export", "x.pt", "-o", "y.txt"], "expected an output file NAME.onnx"),
    ],
)
def test_options_that_would_be_ignored_are_refused(command: list[str], message: str, tmp_path: Path) -> None:
    assert message in one_line(mien(*command, code=2))


def test_a_run_in_the_way_is_told_before_the_work(class_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "last.pt").touch()
    command = ["train", "classify", "--data", class_folder, "--backbone", "reslayer", "--weights", "none"]
    assert "already contains a run" in one_line(mien(*command, "--out", tmp_path, "--devices", "2", code=2))
    assert "nothing to resume" in one_line(mien(*command, "--out", tmp_path / "x", "--resume", code=2))
