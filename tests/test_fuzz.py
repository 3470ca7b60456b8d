"""Commands over odd names, damaged files and clashing outputs: a plain exit code, one line of reason, no input changed.

``MIEN_FUZZ_RUNS=10000`` makes this many runs instead of two hundred.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import logging
import os
import shutil
import zipfile
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import onnx
import PIL.Image as Image
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from mien.bench.report.report import BenchReport
from mien.cli import app
from mien.tests.clips import demo_frames, write_clip

RUNS = int(os.environ.get("MIEN_FUZZ_RUNS", "200"))
ODD_NAMES = ("12:30", "a b", "-x", "ü—é", "a%03d", "*?[x]", "..x", "new\nline", "x" * 240, "'\"$(x)", "http:", "0")
NAMES = st.sampled_from(ODD_NAMES) | st.text(
    st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=12
).filter(lambda name: name.strip("."))
SUFFIXES = ("", ".jpg", ".JPEG", ".png", ".webp", ".mp4", ".avi", ".onnx", ".json", ".csv", ".txt", ".mien")
PICTURES, VIDEOS = ("photo.jpg", "photo.png", "photo.webp"), ("clip.mp4", "clip.avi")
KINDS = (*PICTURES, *VIDEOS, "tiny.onnx", "report.json", "labels.csv", "notes.txt")
FITTING = {
    "predict": PICTURES + VIDEOS,
    "webcam": VIDEOS + PICTURES,
    "info": ("tiny.onnx",),
    "export": ("tiny.onnx",),
    "compare": ("report.json",),
    "evaluate": ("labels.csv", *PICTURES[:2]),
    "train": ("labels.csv", *PICTURES[:2]),
}
"""Kinds of input that each command is for; the others must be refused."""


@dataclass(frozen=True)
class Damage:
    """A change of a file's bytes: at a share of its length, over `length` bytes."""

    kind: str
    place: float
    length: int

    def __call__(self, content: bytes) -> bytes:
        at = int(self.place * len(content))
        if self.kind == "cut":
            return content[:at]
        middle = content[at : at + self.length]
        changed = {
            "flip": bytes(b ^ 0x55 for b in middle),
            "zero": bytes(len(middle)),
            "drop": b"",
            "twice": middle * 2,
        }
        return content[:at] + changed.get(self.kind, middle) + content[at + self.length :]


DAMAGE = st.builds(
    Damage,
    st.sampled_from(["none"] * 4 + ["flip", "zero", "cut", "drop", "twice"]),
    st.floats(0, 1, exclude_max=True),
    st.sampled_from([1, 4, 64, 2000]),
)
OUTPUTS = st.sampled_from(["new"] * 16 + ["input", "spelled", "link", "same", "missing/new", "folder", "full"])


@dataclass(frozen=True)
class Case:
    """One run: a command, its input and where its outputs go."""

    command: str
    kind: str
    name: str
    suffix: str | None
    damage: Damage
    first: str
    second: str
    drawn: bool
    in_folder: bool


def cases_of(command: str) -> st.SearchStrategy[Case]:
    """Runs of one command, most of them on the kind of input that it is for."""
    return st.builds(
        Case,
        st.just(command),
        st.sampled_from(FITTING[command] * 6 + KINDS),
        NAMES,
        st.sampled_from((None,) * 12 + SUFFIXES),
        DAMAGE,
        OUTPUTS,
        OUTPUTS,
        st.booleans(),
        st.booleans(),
    )


COMMANDS = ("predict",) * 5 + ("webcam",) * 5 + ("info", "compare", "export", "evaluate", "train")
CASES = st.sampled_from(COMMANDS).flatmap(cases_of)


class Material(dict[str, bytes]):
    """Contents of whole files by name; its text is short, for it is shown with every failure."""

    def __repr__(self) -> str:
        return "Material()"


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    """Whole files of every kind."""
    folder = tmp_path_factory.mktemp("material")
    frames = demo_frames(6, (160, 120))
    for suffix in ("jpg", "png", "webp"):
        cv2.imwrite(str(folder / f"photo.{suffix}"), frames[0])
    for suffix in ("mp4", "avi"):
        write_clip(folder / f"clip.{suffix}", frames, fps=10)
    onnx.save(tiny_model(), folder / "tiny.onnx")
    shutil.copy(Path(__file__).parents[1] / "docs/results/bench.json", folder / "report.json")
    BenchReport.from_json((folder / "report.json").read_text(), origin="report.json")
    (folder / "labels.csv").write_text("file,age,gender\nphoto.jpg,30,male\nphoto.png,25,female\n")
    (folder / "notes.txt").write_text("no picture, no video\n" * 40)
    return Material({name: (folder / name).read_bytes() for name in KINDS})


def tiny_model() -> onnx.ModelProto:
    """A model that mien did not make: one convolution and a mean over pixels."""
    h = onnx.helper
    image = h.make_tensor_value_info("image", onnx.TensorProto.FLOAT, ["n", 3, 8, 8])
    mean = h.make_tensor_value_info("mean", onnx.TensorProto.FLOAT, ["n", 4, 1, 1])
    weight = onnx.numpy_helper.from_array(np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3, 1, 1), "weight")
    nodes = [h.make_node("Conv", ["image", "weight"], ["y"]), h.make_node("GlobalAveragePool", ["y"], ["mean"])]
    graph = h.make_graph(nodes, "tiny", [image], [mean], [weight])
    return h.make_model(graph, opset_imports=[h.make_opsetid("", 17)], ir_version=8)


def output(kind: str, place: Path, source: Path, name: str) -> Path:
    """The file that an output option names."""
    folder = place / "out"
    if kind == "link":
        link = place / f"link-{name}"
        link.unlink(missing_ok=True)
        link.symlink_to(source)
        return link
    if kind == "folder":
        return folder
    named = {"input": source, "spelled": source.parent / "." / ".." / source.parent.name / source.name}
    named |= {"same": folder / "same.json", "full": Path("/dev/full"), "missing/new": folder / "missing" / name}
    return named.get(kind, folder / name)


def outputs(case: Case) -> dict[str, tuple[str, str]]:
    """The output options of a case's command: where each goes, and its name there."""
    if case.command == "predict":
        drawn = {"--draw": (case.second, "drawn")} if case.drawn else {}
        return {"--json": (case.first, "rows.json")} | drawn
    if case.command == "webcam":
        more = {"--output" if case.drawn else "--csv": (case.second, f"video{case.suffix or '.mp4'}")}
        return {"--json": (case.first, "rows.json")} | more
    one = {"export": ("--output", "model.onnx"), "train": ("--out", "run")}
    return {option: (case.first, name) for option, name in [one[case.command]]} if case.command in one else {}


def arguments(case: Case, source: Path, place: Path) -> list[str]:
    """The command line of a case."""
    given = source.parent if case.in_folder else source
    words = {
        "predict": ["predict", "--threads=1"],
        "webcam": ["webcam", "--no-show", "--max-frames=4", "--threads=1"],
        "info": ["info"],
        "export": ["export", "--precision=fp16"],
        "compare": ["bench", "compare"],
        "evaluate": ["evaluate", "age-gender", f"--data={given}", "--threads=1"],
        "train": ["train", "age-gender", f"--data={given}", "--weights=none", "--epochs=1"],
    }[case.command]
    words += [f"{option}={output(kind, place, source, name)}" for option, (kind, name) in outputs(case).items()]
    inputs = {"predict": [given], "webcam": [given], "info": [source], "export": [source], "compare": [source] * 2}
    return [*words, "--", *map(str, inputs.get(case.command, []))]


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file of a folder, by its path."""
    return {
        os.fspath(path): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink()
    }


def check_whole(path: Path, place: Path) -> None:
    """Check that an output can be read to its end."""
    try:
        read_whole(path, place)
    except Exception as error:
        raise AssertionError(f"{path} is not whole") from error


def read_whole(path: Path, place: Path) -> None:
    """Read a file as what its content shows it to be, whatever its name."""
    content = path.read_bytes()
    assert content
    if content.startswith((b"\x89PNG", b"\xff\xd8")) or content[8:12] == b"WEBP":
        Image.open(io.BytesIO(content)).load()
    elif content[4:8] == b"ftyp" or content[8:12] == b"AVI ":
        video = cv2.VideoCapture(shutil.copy(path, place / f"copy{'.avi' if content[8:12] == b'AVI ' else '.mp4'}"))
        frames = sum(1 for _ in iter(lambda: video.read()[0], False))
        assert 0 < frames == int(video.get(cv2.CAP_PROP_FRAME_COUNT))
    elif content.startswith(b"PK"):  # a checkpoint
        assert zipfile.ZipFile(path).testzip() is None
    elif path.name == "model.onnx":
        onnx.checker.check_model(onnx.load_from_string(content))
    elif content.startswith(b"{"):
        assert all(isinstance(json.loads(line), dict) for line in content.decode().splitlines())
    else:
        widths = {len(row) for row in csv.reader(content.decode().splitlines())}
        assert content.endswith(b"\n") and len(widths) == 1


def run(case: Case, material: Material, place: Path) -> Result:
    """Run a case in an empty folder, and check what came of it."""
    shutil.rmtree(place, ignore_errors=True)
    (place / "in").mkdir(parents=True)
    (place / "out").mkdir()
    suffix = Path(case.kind).suffix if case.suffix is None else case.suffix
    name = case.kind if case.command in ("evaluate", "train") else case.name + suffix
    source = place / "in" / name
    if case.command in ("evaluate", "train"):
        for other in ("photo.jpg", "photo.png", "labels.csv"):
            (place / "in" / other).write_bytes(material[other])
    source.write_bytes(case.damage(material[case.kind]))
    before = digests(place / "in")

    result = CliRunner().invoke(app, arguments(case, source, place))

    logging.getLogger("mien").handlers.clear()
    told = [line for line in result.stderr.splitlines() if line.startswith(("error:", "skipped:"))]
    assert result.exception is None or isinstance(result.exception, SystemExit), repr(result.exception)
    assert result.exit_code in (0, 1, 2), result.output
    assert "Traceback" not in result.output
    assert result.exit_code == 0 or told or "Usage" in result.stderr, result.output
    assert sum(line.startswith("error:") for line in told) <= 1, result.stderr
    assert digests(place / "in") == before
    assert not [path for path in place.rglob("*") if path.name.startswith(".mien-")]
    written = [path for path in (place / "out").rglob("*") if path.is_file()]
    for path in written:
        check_whole(path, place)
    for option, (kind, name) in outputs(case).items():
        if result.exit_code == 0 and kind == "new" and not told:
            wanted = place / "out" / name
            assert any(path.is_relative_to(wanted) for path in written), f"{option} made nothing: {result.output}"
    return result


@settings(
    max_examples=RUNS,
    derandomize="MIEN_FUZZ_RUNS" not in os.environ,  # with it: --hypothesis-seed
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(case=CASES)
def test_no_command_loses_an_input_or_ends_in_a_traceback(
    case: Case, material: Material, tmp_path_factory: pytest.TempPathFactory
) -> None:
    result = run(case, material, tmp_path_factory.getbasetemp() / "fuzz")
    event(f"{case.command} ended with {result.exit_code}")


@pytest.mark.parametrize(
    ("command", "kind", "drawn", "suffix", "kept"),
    [
        ("predict", "photo.jpg", True, ".jpg", 0.6),
        ("predict", "photo.png", True, ".png", 0.6),
        ("predict", "photo.webp", True, ".webp", 0.6),
        ("predict", "photo.png", True, ".png", 0),
        ("webcam", "clip.avi", False, ".json", 0.6),
        ("webcam", "clip.avi", False, ".json", 0),
        ("webcam", "clip.avi", False, ".mp4", 0.6),  # a table of that name
        ("webcam", "clip.avi", True, ".mp4", 0.6),
        ("export", "tiny.onnx", False, ".onnx", 0.6),
    ],
)
def test_the_fuzz_finds_an_output_that_is_missing_or_left_half(
    command: str,
    kind: str,
    drawn: bool,
    suffix: str,
    kept: float,
    material: Material,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    case = Case(command, kind, "a", None, Damage("none", 0, 1), "new", "new", drawn, in_folder=False)
    assert run(case, material, tmp_path).exit_code == 0
    replace = os.replace

    def fail(made: Path, target: Path) -> None:
        if target.suffix == suffix:
            os.truncate(made, int(kept * made.stat().st_size))
        if target.suffix == suffix and not kept:
            made.unlink()
        else:
            replace(made, target)

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(AssertionError, match=rf"\{suffix} is not whole" if kept else "made nothing"):
        run(case, material, tmp_path)
