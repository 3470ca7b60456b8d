"""Sizes of faces that the shipped detector finds, on the photograph that the demo camera films."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from mien.runtime.backends.open_runner import open_model
from mien.runtime.capture.demo_camera import find_photo
from mien.runtime.errors import InputError, ModelError, ProviderError
from mien.runtime.faces.detector import YUNET_OUTPUTS, OwnDetector, YunetDetector, open_detector
from mien.runtime.models.runner import Provider
from mien.runtime.models.shipped import shipped_model
from mien.runtime.pictures.images import read_image
from mien.runtime.values import Image


@pytest.fixture(scope="module")
def detector() -> Iterator[OwnDetector]:
    opened = OwnDetector(open_model(shipped_model("detector"), threads=1))
    yield opened
    opened.close()


def photo(width: int) -> Image:
    """Return the photograph, of this width, in the middle of a grey picture of 640 × 480."""
    picture = read_image(find_photo()[0])
    picture = np.asarray(cv2.resize(picture, None, fx=width / picture.shape[1], fy=width / picture.shape[1]), np.uint8)
    canvas = np.full((480, 640, 3), 127, np.uint8)
    height = min(picture.shape[0], 480)
    top, left = (480 - height) // 2, (640 - width) // 2
    canvas[top : top + height, left : left + width] = picture[:height]
    return canvas


def test_a_search_for_small_faces_runs_the_model_once_and_leaves_large_ones_out(
    detector: OwnDetector, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner, sizes = detector.runner, []

    class Counting:
        spec = runner.spec

        def __call__(self, batch: Image) -> dict[str, np.ndarray]:
            sizes.append(batch.shape[1:3])
            return runner(batch)

    monkeypatch.setattr(detector, "runner", Counting())
    small, large = (detector(photo(width), small_only=True)[0] for width in (120, 600))
    assert sizes == [(480, 640)] * 2 and len(small) == 1 and len(large) == 0
    for found, width in ((small[0], 120), (detector(photo(600))[0][0], 600)):
        assert 0.1 * width < found[2] - found[0] < 0.7 * width


class FakeYunet:
    """Stands for OpenCV's network: notes how it is set up, and answers with `rows` of x, y, w, h, 5 points, score."""

    rows: np.ndarray | None = None

    def __init__(self, path: str, config: str, size: tuple[int, int], score: float) -> None:
        self.path, self.size, self.score = path, size, score

    def setScoreThreshold(self, score: float) -> None:  # noqa: N802 - OpenCV's name
        self.score = score

    def setInputSize(self, size: tuple[int, int]) -> None:  # noqa: N802 - OpenCV's name
        self.size = size

    def detect(self, image: Image) -> tuple[int, np.ndarray | None]:
        assert self.size == (image.shape[1], image.shape[0])
        return 1, self.rows


def write_outputs(path: Path, names: set[str]) -> Path:
    """Write an ONNX file without mien's metadata, with these outputs and no other content."""
    onnx = pytest.importorskip("onnx")
    outputs = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in sorted(names)]
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph([], "net", [], outputs)), str(path))
    return path


def test_rows_of_yunet_are_boxes_of_the_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "FaceDetectorYN", SimpleNamespace(create=FakeYunet))
    file = write_outputs(tmp_path / "yunet.onnx", YUNET_OUTPUTS)
    detector = open_detector(file, provider=Provider.CPU, max_side=320)
    assert isinstance(detector, YunetDetector)
    net, picture = detector._net, np.zeros((480, 640, 3), np.uint8)
    assert isinstance(net, FakeYunet) and (Path(net.path).name, net.score) == ("yunet.onnx", 0.7)
    boxes, scores = detector(picture, min_score=0.25)
    assert boxes.shape == (0, 4) and scores.shape == (0,) and (net.size, net.score) == ((320, 240), 0.25)
    net.rows = np.zeros((2, 15), np.float32)
    net.rows[:, :4], net.rows[:, 14] = [[10, 20, 30, 40], [100, 50, 60, 80]], [0.75, 0.875]
    boxes, scores = detector(picture)  # is reduced by 2; the best face first
    assert boxes.tolist() == [[200, 100, 320, 260], [20, 40, 80, 120]] and scores.tolist() == [0.875, 0.75]
    assert net.score == 0.7


@pytest.mark.parametrize("max_side", [0, -640, 31, float("nan")])
def test_a_picture_is_not_reduced_to_nothing(max_side: int) -> None:
    with pytest.raises(InputError, match="max_side: expected at least 32 px, found"):
        open_detector(shipped_model("detector"), max_side=max_side)


def test_a_yunet_file_is_told_by_its_outputs_and_runs_on_the_cpu(tmp_path: Path) -> None:
    yunet = write_outputs(tmp_path / "yunet.onnx", YUNET_OUTPUTS)
    with pytest.raises(ProviderError, match="runs in OpenCV on the CPU, not on cuda"):
        open_detector(yunet, provider=Provider.CUDA)
    other = write_outputs(tmp_path / "other.onnx", YUNET_OUTPUTS - {"obj_8"})
    with pytest.raises(ModelError, match="neither a mien detector nor a YuNet file"):
        open_detector(other)
    with pytest.raises(ModelError, match="is not a YuNet file that OpenCV can run"):
        open_detector(yunet)
