"""`mien bundle` and `mien verify`: a bundle holds where it was made, and a device is told when it does not."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner, Result

from mien.bench import verify as verifying
from mien.bench.verify import VerifyOptions, face_errors, verify, verify_file
from mien.cli import app
from mien.export.convert import bundle as bundling
from mien.export.convert.bundle import Bundled, make_bundle
from mien.export.convert.model_cards import model_card, section
from mien.runtime.backends.ort.onnx_runner import OnnxRunner
from mien.runtime.backends.trt import engine_runner
from mien.runtime.capture.demo_camera import find_photo
from mien.runtime.errors import CheckFailed, InputError, ModelError, OutputError, ProviderError
from mien.runtime.models.bundle import BENCH, FACES, MANIFEST, PICTURE, golden_file, pack_bundle, read_bundle
from mien.runtime.models.runner import Provider
from mien.runtime.models.shipped import shipped_model
from mien.runtime.models.spec import Precision, Task
from mien.runtime.pipeline.pipeline import Pipeline
from mien.tests.fakes.fake_accelerator import fake_accelerator

UNMEASURED = VerifyOptions(rounds=0)
NAMES = ("landmarks", "detector", "age_gender")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Bundled:
    """The shipped model files in both precisions, measured a little."""
    path = tmp_path_factory.mktemp("bundle") / "face.mien"
    models = {name: shipped_model(name) for name in NAMES}
    return make_bundle(path, models=models, options=VerifyOptions(rounds=1, calls_per_round=4))


def repacked(made: Bundled, target: Path, members: dict[str, bytes]) -> Path:
    """The bundle with other members and good sums: what a device with other arithmetic would meet."""
    bundle = read_bundle(made.path)
    target.write_bytes(pack_bundle(bundle.models, dict(bundle.files) | members, made_by=bundle.made_by))
    return target


def test_what_is_in_a_bundle(made: Bundled) -> None:
    bundle = read_bundle(made.path)
    wanted = {BENCH, "licences.md", PICTURE, FACES}
    for name in NAMES:
        wanted |= {f"cards/{name}.md", golden_file(name, "image")}
        wanted |= {f"models/{name}.{p}.onnx" for p in ("fp32", "fp16")}
        wanted |= {f"specs/{name}.{p}.json" for p in ("fp32", "fp16")}
        wanted |= {golden_file(name, o) for m in bundle.models if m.name == name for o in m.spec.outputs}
    assert set(bundle.files) == wanted
    assert bundle.files["models/landmarks.fp32.onnx"] == shipped_model("landmarks").read_bytes()
    assert len(bundle.files["models/landmarks.fp16.onnx"]) < 0.6 * len(bundle.files["models/landmarks.fp32.onnx"])
    assert json.loads(bundle.files["specs/detector.fp16.json"])["task"] == "detector"
    card = bundle.files["cards/landmarks.md"].decode()
    assert card.startswith("## landmarks") and "YouTube faces" in card and "## detector" not in card
    licences = bundle.files["licences.md"].decode()
    assert "research use only" in licences and "UTKFace" in licences
    baseline = json.loads(bundle.files[BENCH])
    assert {row["name"] for row in baseline["measurements"]} == {c.name for c in made.verdict.checks}
    assert all(row["n"] == 4 == len(row["processes"][0]["latencies_ns"][0]) for row in baseline["measurements"])
    assert baseline["environment"]["machine"]
    assert bundle.sha256 == made.sha256 and made.size_bytes == made.path.stat().st_size


def test_it_holds_where_it_was_made(made: Bundled) -> None:
    verdict = verify_file(made.path, VerifyOptions(rounds=1, calls_per_round=3), sha256=made.sha256.upper())
    assert verdict and len(verdict.checks) == 8 and str(verdict) == "verified: 8 of 8 checks passed on cpu"
    for check in verdict.checks:
        assert check.measurement is not None and len(check.measurement.calls_ns) == 3
        assert verdict.bundled_p50_ms(check) is not None
        assert check.parity is not None and all(part.count for part in check.parity.parts)
    row = json.loads(json.dumps(verdict.to_row()))
    assert row["passed"] is True and row["environment"]["cpu"] and len(row["checks"]) == 8


def test_the_same_models_make_the_same_bytes(tmp_path: Path) -> None:
    packed = [
        make_bundle(tmp_path / f"{i}.mien", precisions=(Precision.FP32,), options=UNMEASURED).path.read_bytes()
        for i in range(2)
    ]
    assert packed[0] == packed[1]
    assert BENCH not in read_bundle(tmp_path / "0.mien").files


def test_a_device_that_computes_something_else_is_told(made: Bundled, tmp_path: Path) -> None:
    bundle = read_bundle(made.path)
    _, outputs = bundle.golden("landmarks")
    moved = npy(outputs["landmarks"] + np.float32(0.01))  # by 1.1 px
    path = repacked(made, tmp_path / "other.mien", {golden_file("landmarks", "landmarks"): moved})
    verdict = verify_file(path, UNMEASURED)
    assert not verdict and str(verdict) == "failed: 6 of 8 checks passed on cpu"
    assert {c.name for c in verdict.checks if not c} == {"landmarks/fp32/cpu", "landmarks/fp16/cpu"}
    assert all("px (tolerance" in str(c.parity) for c in verdict.checks if not c and c.model == "landmarks")


def npy(values: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, values, version=(1, 0))
    return stream.getvalue()


def test_a_device_that_cuts_crops_otherwise_is_told(made: Bundled) -> None:
    """The models compute what they did, but not what is between a picture and its faces."""
    bundle = read_bundle(made.path)
    picture, faces = bundle.picture()
    for other, told in (
        ({FACES: npy(faces + 3.0)}, "NME % (tolerance"),
        ({PICTURE: npy(np.random.default_rng(0).integers(0, 255, picture.shape, np.uint8))}, "no face was found"),
        ({FACES: npy(faces[0])}, "expected floats (n, 68, 3)"),
    ):
        verdict = verify(replace(bundle, files=dict(bundle.files) | other), UNMEASURED)
        assert [c.name for c in verdict.checks if not c] == ["pipeline/fp32/cpu", "pipeline/fp16/cpu"]
        assert all(told in (c.failure or str(c.parity)) for c in verdict.checks if not c)


def test_each_face_is_compared_with_the_one_next_to_it() -> None:
    faces = np.random.default_rng(0).uniform(0, 50, (3, 68, 3)) + np.array([0, 200, 400])[:, None, None]
    errors = face_errors(faces[[2, 0, 1]] + [0.5, 0, 0], faces[:2])
    eyes = np.linalg.norm(faces[:2, 36, :2] - faces[:2, 45, :2], axis=-1)
    np.testing.assert_allclose(errors, 100 * 0.5 / eyes)
    with pytest.raises(CheckFailed, match="no face was found in the golden picture; expected 3"):
        face_errors(faces[:0], faces)


def test_the_golden_picture_comes_from_the_data(tmp_path: Path, class_folder: Path) -> None:
    whole = (Precision.FP32,)
    with pytest.raises(InputError, match=r"shapes: no clear face in 20 pictures; a bundle needs one"):
        make_bundle(tmp_path / "face.mien", precisions=whole, data=class_folder, options=UNMEASURED)
    (tmp_path / "photos").mkdir()
    photo, _ = find_photo()
    cv2.imwrite(str(tmp_path / "photos" / "large.png"), cv2.resize(cv2.imread(str(photo)), None, fx=2, fy=2))
    made = make_bundle(tmp_path / "face.mien", precisions=whole, data=tmp_path / "photos", options=UNMEASURED)
    picture, faces = read_bundle(made.path).picture()
    assert max(picture.shape) == 640 and len(faces) == 1


def test_a_model_that_is_not_what_its_spec_says_is_told(made: Bundled) -> None:
    bundle = read_bundle(made.path)
    models = tuple(
        replace(m, spec=replace(m.spec, crop_scale=9.0)) if m.name == "landmarks" else m for m in bundle.models
    )
    verdict = verify(replace(bundle, models=models), UNMEASURED)
    assert [c.failure for c in verdict.checks if c.name == "landmarks/fp32/cpu"] == [
        "the spec inside models/landmarks.fp32.onnx differs from specs/landmarks.fp32.json"
    ]
    assert not verdict
    broken = dict(bundle.files) | {"models/detector.fp32.onnx": b"no model"}
    failed = [c for c in verify(replace(bundle, files=broken), UNMEASURED).checks if not c]
    assert [c.name for c in failed] == ["detector/fp32/cpu"] and failed[0].parity is None
    assert "not a model that ONNX Runtime can load" in failed[0].failure


def test_providers_that_are_not_here_fail_only_if_they_must_run(made: Bundled, monkeypatch: pytest.MonkeyPatch) -> None:
    def cpu_only(path: Path, *, provider: Provider, threads: int) -> OnnxRunner:
        if provider is not Provider.CPU:
            raise ProviderError("libcublas is missing")
        return OnnxRunner(path, provider=provider, threads=threads)

    monkeypatch.setattr(verifying, "open_model", cpu_only)
    bundle = read_bundle(made.path)
    verdict = verify(bundle, UNMEASURED)
    assert verdict and verdict.absent[Provider.CUDA] == "libcublas is missing"
    required = verify(bundle, replace(UNMEASURED, required=(Provider.CUDA,)))
    assert not required and {c.failure for c in required.checks} == {"libcublas is missing"}
    monkeypatch.setattr(verifying, "PROVIDERS", (Provider.CUDA,))
    assert not verify(bundle, UNMEASURED)  # nothing ran, so nothing holds


def test_a_provider_that_takes_some_models_and_refuses_others_fails(
    made: Bundled, monkeypatch: pytest.MonkeyPatch
) -> None:
    def choosy(path: Path, *, provider: Provider, threads: int) -> OnnxRunner:
        if provider is not Provider.CPU and (provider is not Provider.CUDA or "detector" in path.name):
            raise ProviderError("no kernel for it")
        return OnnxRunner(path, provider=Provider.CPU, threads=threads)

    monkeypatch.setattr(verifying, "open_model", choosy)
    verdict = verify(read_bundle(made.path), UNMEASURED)
    assert not verdict and Provider.CUDA not in verdict.absent
    assert [c.name for c in verdict.checks if not c] == ["detector/fp32/cuda", "detector/fp16/cuda"]


def test_engines_are_built_and_checked_where_tensorrt_is(
    made: Bundled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a stand-in for TensorRT; the engines stay, and a pipeline of the same bundle takes them."""
    monkeypatch.setenv("MIEN_CACHE", str(tmp_path))
    monkeypatch.setattr(engine_runner, "find_accelerator", fake_accelerator)
    verdict = verify(read_bundle(made.path), VerifyOptions(required=(Provider.TENSORRT,), rounds=1, calls_per_round=2))
    assert str(verdict) == "verified: 8 of 8 checks passed on tensorrt"
    assert all(check.measurement is not None for check in verdict.checks)
    engines = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.plan")}
    assert len(engines) == 6
    with Pipeline.load(bundle=made.path, precision=Precision.FP16, provider=Provider.TENSORRT) as pipeline:
        assert pipeline.landmarks.provider == "tensorrt" and pipeline.landmarks.precision is Precision.FP16
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.plan")} == engines


def test_a_baseline_that_cannot_be_read_decides_nothing(made: Bundled, tmp_path: Path) -> None:
    endless = [b'{"measurements": [{"name": "x", "p50_ms": %s}]}' % number for number in (b"1e999", b"NaN", b"9" * 400)]
    for text in (b"no json", b"[]", b"[" * 100_000, b'{"measurements": [{"name": 1}]}', *endless):
        verdict = verify_file(repacked(made, tmp_path / "a.mien", {BENCH: text}), UNMEASURED)
        assert verdict and verdict.bundled == ()


def test_golden_samples_that_are_no_numbers_fail_in_plain_json(made: Bundled, tmp_path: Path) -> None:
    nothing = npy(np.full(4, np.nan, np.float32))
    path = tmp_path / "a.mien"
    verdict = verify_file(repacked(made, path, {golden_file("landmarks", "presence"): nothing}), UNMEASURED)
    assert not verdict
    row = json.loads(json.dumps(verdict.to_row(), allow_nan=False))
    check = next(check for check in row["checks"] if check["model"] == "landmarks")
    parts = {part["unit"]: part for part in check["parity"]}
    assert parts["score"]["max"] is None and parts["px"]["max"] < 0.05


def test_verify_needs_no_torch(made: Bundled) -> None:
    code = (
        "import sys\n"
        "for name in ('torch', 'torchvision', 'onnx', 'onnxscript', 'matplotlib'): sys.modules[name] = None\n"
        "from mien.bench.timing import interleave\n"
        "interleave.SETTLED = 1e9\n"  # warm up briefly
        f"sys.argv = ['mien', 'verify', {str(made.path)!r}, '--rounds', '1', '--json']\n"
        "from mien.cli import app\n"
        "app()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["passed"] is True


def test_what_does_not_hold_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "face.mien"
    monkeypatch.setattr(bundling, "verify", lambda bundle, *_, **__: verifying.Verdict(bundle.sha256))
    with pytest.raises(CheckFailed, match="the bundle was not written"):
        make_bundle(target, precisions=(Precision.FP32,), options=UNMEASURED)
    assert not list(tmp_path.iterdir())


def test_bundles_of_the_wrong_models_are_refused(
    made: Bundled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, whole = tmp_path / "face.mien", (Precision.FP32,)
    with pytest.raises(InputError, match="a bundle has landmarks, a detector"):
        make_bundle(target, models={"landmarks": None})
    with pytest.raises(ModelError, match="a model for detector, expected landmarks"):
        make_bundle(target, models={"landmarks": shipped_model("detector"), "detector": None}, precisions=whole)
    half = tmp_path / "half.onnx"
    half.write_bytes(read_bundle(made.path).files["models/landmarks.fp16.onnx"])
    with pytest.raises(ModelError, match="is fp16; bundle the float32 file"):
        make_bundle(target, models={"landmarks": half, "detector": None}, precisions=whole)
    with pytest.raises(OutputError, match="no folder"):
        make_bundle(tmp_path / "none" / "face.mien")
    monkeypatch.setattr(bundling, "MAX_BYTES", 1000)
    with pytest.raises(OutputError, match="at most 1000"):
        make_bundle(target, precisions=(Precision.FP32,), options=UNMEASURED)
    assert not target.exists()


def test_the_card_of_ones_own_model_says_what_its_spec_knows() -> None:
    with OnnxRunner(shipped_model("age_gender"), provider=Provider.CPU) as runner:
        spec = replace(runner.spec, weights_sha256="ab12", provenance={"data": "my faces"}, classes=("x", "y"))
    card = model_card("age_gender", spec)
    assert "ab12" in card and "| data | my faces |" in card and "x, y" in card and "UTKFace" not in card
    assert spec.task is Task.AGE_GENDER
    assert section("## a\n1\n## b\n2\n", "a") == "## a\n1\n" and section("## a\n", "c") == ""


run = CliRunner()


def mien(*arguments: object, code: int = 0) -> Result:
    result = run.invoke(app, [str(a) for a in arguments])
    assert result.exit_code == code, f"{result.output}\n{result.exception!r}"
    return result


@pytest.mark.parametrize("command", ["bundle", "verify"])
def test_the_commands_help_with_an_example(command: str) -> None:
    assert f"mien {command} " in mien(command, "--help").output.split("Usage:")[1].split("\n", 1)[1]


def test_the_commands_from_bundle_to_prediction(tmp_path: Path) -> None:
    path = tmp_path / "face.mien"
    digest = mien("bundle", "-o", path, "--precision", "fp32", "--rounds", 0).stdout.strip()
    told = mien("verify", path, "--sha256", digest, "--rounds", 1, "--provider", "cpu").stdout
    assert "✓ landmarks fp32 on cpu: max 0 px" in told
    assert told.splitlines()[-1] == "verified: 4 of 4 checks passed on cpu"
    photo, _ = find_photo()
    rows = [
        json.loads(mien("predict", photo, "--json", "-", *more).stdout)
        for more in (["--precision", "fp32"], ["--bundle", path])
    ]
    assert rows[0] == rows[1] and rows[0]["faces"][0]["age"] is not None
    for more in (["--model", shipped_model("landmarks")], ["--precision", "fp16"]):
        assert "error:" in mien("predict", photo, "--bundle", path, *more, code=2).stderr
    assert "for fp16, make a bundle with" in mien("predict", photo, "--precision", "fp16", code=2).stderr


def test_verify_says_no(made: Bundled, tmp_path: Path) -> None:
    assert "expected sha256 00" in mien("verify", made.path, "--sha256", "00", code=1).stdout
    damaged = tmp_path / "damaged.mien"
    data = bytearray(made.path.read_bytes())
    data[len(data) // 2] ^= 1
    damaged.write_bytes(data)
    assert mien("verify", damaged, code=1).stdout.startswith("refused: ")
    row = json.loads(mien("verify", damaged, "--json", code=1).stdout)
    assert row["passed"] is False and row["verdict"].startswith("refused: ") and row["checks"] == []
    assert "no bundle" in mien("verify", tmp_path / MANIFEST, code=2).stderr
    assert "omit it" in mien("verify", made.path, "--provider", "auto", code=2).stderr


def test_options_of_bundle_that_make_no_sense(tmp_path: Path) -> None:
    target = tmp_path / "face.mien"
    assert "fp32 or fp16" in mien("bundle", "-o", target, "--precision", "int8", code=2).stderr
    told = mien("bundle", "-o", target, "--no-attributes", "--age-gender", shipped_model("age_gender"), code=2).stderr
    assert "exclude each other" in told
    mien("bundle", "-o", target, "--no-attributes", "--precision", "fp32", "--rounds", 0)
    assert {m.name for m in read_bundle(target).models} == {"landmarks", "detector"}
