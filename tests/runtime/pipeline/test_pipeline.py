"""The whole runtime with the shipped models, on the photograph that the demo camera films."""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest

from mien import Faces, Frame, Pipeline, Provider
from mien.runtime.backends.fastest_precision import AVX512_VNNI
from mien.runtime.backends.ort.onnx_runner import OnnxRunner
from mien.runtime.capture.demo_camera import DemoCamera, find_photo
from mien.runtime.errors import InputError, ModelError, ProviderError
from mien.runtime.faces.detector import OwnDetector, YunetDetector, open_detector
from mien.runtime.models.model_file import ModelFile
from mien.runtime.models.shipped import shipped_model
from mien.runtime.models.spec import Precision
from mien.runtime.pictures.images import read_image
from mien.runtime.values import Image
from mien.runtime.vision.geometry import roll_of

YUNET = Path(__file__).parents[4] / "shared" / "weights" / "face_detection_yunet_2023mar.onnx"


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return Pipeline.load(provider=Provider.CPU, threads=1)


@pytest.fixture(scope="module")
def photo() -> Image:
    return read_image(find_photo()[0])


def eyes(faces: Faces) -> np.ndarray:
    """Middle of each eye (2, 2) of the face with the best score."""
    assert len(faces) and faces.scores[0] > 0.6 and faces.presence[0] > 0.9
    return np.stack([faces.landmarks[0, 36:42, :2].mean(axis=0), faces.landmarks[0, 42:48, :2].mean(axis=0)])


def test_the_face_of_a_photograph(pipeline: Pipeline, photo: Image) -> None:
    faces = pipeline(photo)
    assert len(faces) == 1 and faces.scores[0] > 0.5 and faces.presence[0] > 0.9
    x0, y0, x1, y1 = find_photo()[1].face
    points = faces.landmarks[0]
    assert (points[:, 0] > x0 - 20).all() and (points[:, 0] < x1 + 20).all()
    assert (points[:, 1] > y0 - 20).all() and (points[:, 1] < y1 + 20).all()
    assert points[30, 2] < points[[0, 16], 2].mean()  # the nose is nearer than the ears
    assert points[[37, 38], 1].mean() < points[[40, 41], 1].mean() < points[51, 1] < points[57, 1] < points[8, 1]


@pytest.mark.parametrize("zoom", [0.5, 2.0])
def test_landmarks_scale_with_the_picture(pipeline: Pipeline, photo: Image, zoom: float) -> None:
    scaled = np.asarray(cv2.resize(photo, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_AREA), np.uint8)
    assert np.abs(eyes(pipeline(scaled)) / zoom - eyes(pipeline(photo))).max() < 4


def test_landmarks_move_with_the_picture(pipeline: Pipeline, photo: Image) -> None:
    moved = np.zeros((700, 700, 3), np.uint8)
    moved[60:660, 90:602] = photo
    assert np.abs(eyes(pipeline(moved)) - [90, 60] - eyes(pipeline(photo))).max() < 4


def test_several_faces_in_one_picture(pipeline: Pipeline, photo: Image) -> None:
    small = np.asarray(cv2.resize(photo, (256, 300), interpolation=cv2.INTER_AREA), np.uint8)
    faces = pipeline(np.concatenate([small, small[:, ::-1], small], axis=1))
    assert len(faces) == 3
    assert (np.diff(sorted(faces.landmarks[:, 30, 0])) > 150).all()


def test_no_face_in_plain_pictures(pipeline: Pipeline) -> None:
    for value in (0, 128, 255):
        assert len(pipeline(np.full((240, 320, 3), value, np.uint8))) == 0
    for shape in ((1, 1, 3), (5, 700, 3), (31, 33, 3)):
        assert len(pipeline(np.zeros(shape, np.uint8))) == 0


@pytest.mark.parametrize("picture", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)])
def test_what_is_no_picture(pipeline: Pipeline, picture: Image) -> None:
    with pytest.raises(InputError, match="expected a picture"):
        pipeline(picture)
    with pytest.raises(InputError, match="expected a picture"):
        next(pipeline.track([Frame(picture, timestamp_ns=0, index=0)]))


def test_what_is_no_array(pipeline: Pipeline) -> None:
    with pytest.raises(InputError, match=r"found None; did cv2\.imread find the file\?"):
        pipeline(cv2.imread("none.jpg"))
    with pytest.raises(InputError, match=r"open_capture or Frame\(pixels, timestamp_ns, index\), found ndarray"):
        next(pipeline.track([np.zeros((4, 4, 3), np.uint8)]))  # type: ignore[list-item]
    with pytest.raises(InputError, match=r"expected a picture .* found list"):
        pipeline([[0, 0, 0]])  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"expected a uint8 batch .* found NoneType"):
        pipeline.landmarks(None)  # type: ignore[arg-type]


def test_files_and_providers_by_their_names(photo: Image) -> None:
    model = str(shipped_model("landmarks"))
    with Pipeline.load(model=model, attributes=False, provider="cpu", threads=1) as pipeline:
        assert len(pipeline(photo)) == 1 and pipeline.landmarks.provider == "cpu"
    with OnnxRunner(model, provider="cpu") as runner:
        assert runner.provider == "cpu"
    for provider in ("gpu", "CPU"):
        with pytest.raises(InputError, match=rf"expected a provider \(auto, cpu, .*\), found '{provider}'"):
            Pipeline.load(provider=provider)
        with pytest.raises(InputError, match="expected a provider"):
            OnnxRunner(model, provider=provider)
    with pytest.raises(InputError, match=r"expected a precision \(fp32, fp16, int8\), found 'half'"):
        Pipeline.load(precision="half")
    for missing in ({"model": "none.onnx"}, {"detector": "none.onnx"}, {"age_gender": "none.onnx"}):
        with pytest.raises(ModelError, match=r"none\.onnx"):
            Pipeline.load(provider="cpu", **missing)
    with pytest.raises(InputError, match=r"no bundle none\.mien"):
        Pipeline.load(bundle="none.mien")
    for provider in ("tensorrt", "ort-tensorrt"):
        with contextlib.suppress(ProviderError):  # the one or the other, and no KeyError
            Pipeline.load(provider=provider).close()


def test_models_that_were_opened_before_a_bad_one_are_closed() -> None:
    opened: list[OnnxRunner] = []

    def note(path: Path, *, provider: Provider, threads: int) -> OnnxRunner:
        opened.append(OnnxRunner(path, provider=provider, threads=threads))
        return opened[-1]

    with pytest.raises(ModelError, match="expected an age and gender model"):
        Pipeline.load(age_gender=shipped_model("landmarks"), provider=Provider.CPU, open_runner=note)
    assert len(opened) == 2 and all(runner.session is None for runner in opened)


def test_one_pipeline_serves_several_threads(pipeline: Pipeline) -> None:
    camera = DemoCamera()
    pictures = [camera.frame(i) for i in range(0, 80, 10)]
    alone = [pipeline(p).landmarks for p in pictures]
    with ThreadPoolExecutor(4) as pool:
        together = [f.landmarks for f in pool.map(pipeline, pictures)]
    assert all(np.allclose(a, b, atol=1e-3) for a, b in zip(alone, together, strict=True))


def test_tracking_follows_a_face_that_turns(pipeline: Pipeline, photo: Image) -> None:
    """The crop is turned upright from the last landmarks, so a face may turn further than any training crop did."""
    middle = (290.0, 225.0)
    frames = []
    for i, degrees in enumerate(range(0, 121, 4)):
        matrix = cv2.getRotationMatrix2D(middle, -degrees, 1.0)
        frames.append(Frame(np.asarray(cv2.warpAffine(photo, matrix, (512, 600)), np.uint8), i, i))
    rolls = []
    for _, faces in pipeline.track(frames, detect_every=1000):
        assert len(faces) == 1 and faces.track_id.tolist() == [0]
        rolls.append(float(np.degrees(roll_of(faces.landmarks)[0])))
    # The demo face's own roll is the first; it is followed to within a few degrees.
    assert np.abs(np.array(rolls) - rolls[0] - np.arange(0, 121, 4)).max() < 8


def test_wrong_models_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="expected a landmark model, found a detector"):
        Pipeline.load(model=shipped_model("detector"))
    with pytest.raises(ModelError, match="expected a detector, found a landmark model"):
        open_detector(shipped_model("landmarks"))
    with pytest.raises(ModelError, match=r"ships no ears\.onnx, only "):
        shipped_model("ears")


@pytest.mark.parametrize("vnni", [False, True])
def test_the_precision_is_the_fastest_or_the_requested(vnni: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cv2.checkHardwareSupport", lambda _: vnni)
    fastest = Precision.INT8 if vnni else Precision.FP32
    for precision in (None, "fp32", Precision.INT8):
        with Pipeline.load(provider=Provider.CPU, precision=precision) as pipeline:
            assert isinstance(pipeline.detector, OwnDetector) and pipeline.age_gender is not None
            runners = (pipeline.detector.runner, pipeline.landmarks, pipeline.age_gender)
            assert {runner.precision for runner in runners} == {fastest if precision is None else Precision(precision)}
    own = shipped_model("landmarks", Precision.INT8)
    with Pipeline.load(model=own, provider=Provider.CPU, precision=Precision.INT8) as pipeline:
        assert pipeline.landmarks.precision is Precision.INT8
    with pytest.raises(InputError, match="expected a landmark model in fp32, found one in int8"):
        Pipeline.load(model=own, provider=Provider.CPU, precision=Precision.FP32)
    with pytest.raises(InputError, match="mien ships fp32 and int8 models; for fp16, make a bundle with"):
        Pipeline.load(model=own, precision=Precision.FP16)


@pytest.mark.skipif(not cv2.checkHardwareSupport(AVX512_VNNI), reason="sums of int8 saturate on this CPU")
def test_int8_finds_the_same_face(photo: Image) -> None:
    found = []
    for precision in (Precision.FP32, Precision.INT8):
        with Pipeline.load(provider=Provider.CPU, precision=precision) as pipeline:
            found.append(pipeline(photo))
    exact, rounded = found
    eyes_px = np.linalg.norm(exact.landmarks[0, 45, :2] - exact.landmarks[0, 36, :2])
    assert len(exact) == len(rounded) == 1
    assert np.abs(rounded.landmarks - exact.landmarks).mean() < 0.015 * eyes_px
    assert abs(rounded.age[0] - exact.age[0]) < 3 and abs(rounded.female[0] - exact.female[0]) < 0.1
    for name in ("landmarks", "detector", "age_gender"):
        files = [ModelFile.of(shipped_model(name, precision)) for precision in (Precision.FP32, Precision.INT8)]
        assert files[0].spec.weights_sha256 == files[1].spec.weights_sha256


def test_cuda_is_cuda_or_an_error() -> None:
    try:
        runner = OnnxRunner(shipped_model("landmarks"), provider=Provider.CUDA)
    except ProviderError as error:
        assert "CUDA" in str(error)
    else:
        assert runner.provider == "cuda"


@pytest.mark.skipif(not YUNET.is_file(), reason="no YuNet file at hand")
def test_a_yunet_file_serves_as_detector(photo: Image) -> None:
    with Pipeline.load(detector=YUNET, provider=Provider.CPU) as pipeline:
        assert isinstance(pipeline.detector, YunetDetector)
        assert len(pipeline(photo)) == 1
