from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mien.runtime.capture import demo_camera
from mien.runtime.capture.demo_camera import DemoCamera, find_photo, hang_photo
from mien.runtime.capture.frame_queue import FramePolicy
from mien.runtime.capture.open_capture import open_capture
from mien.runtime.errors import InputError
from mien.runtime.pictures.images import read_image


def photo_is_installed() -> bool:
    try:
        find_photo()
    except InputError:
        return False
    return True


needs_photo = pytest.mark.skipif(not photo_is_installed(), reason="neither matplotlib nor scikit-image is here")


@pytest.fixture(scope="module")
def camera() -> DemoCamera:
    return DemoCamera()


@needs_photo
def test_frames_are_a_function_of_their_index(camera: DemoCamera) -> None:
    again = DemoCamera()
    read = [again.read() for _ in range(3)]
    for index, taken in enumerate(read):
        assert taken is not None
        assert np.array_equal(taken[0], camera.frame(index))
        assert taken[1] == round(index * 1e9 / 30)
    assert camera.frame(0).shape == (480, 640, 3)
    assert not np.array_equal(camera.frame(0), camera.frame(1))
    again.close()
    assert again.read() is None


@needs_photo
@pytest.mark.parametrize("size", [(640, 480), (1280, 720), (360, 640)])
def test_the_face_stays_in_view_and_large_over_ten_minutes(size: tuple[int, int]) -> None:
    camera = DemoCamera(size=size)
    scale = min(size[0] / 640, size[1] / 480)
    for index in range(0, 18_000, 17):
        corners = camera.face_corners(index)
        assert (corners >= 0).all()
        assert (corners <= size).all()
        height = np.hypot(*(corners[3] - corners[0]))
        assert 120 * scale < height < 300 * scale


@needs_photo
def test_the_motion_is_smooth(camera: DemoCamera) -> None:
    steps = np.diff([camera.face_corners(i) for i in range(900)], axis=0)
    assert np.abs(steps).max() < 12  # px a frame
    assert np.abs(np.diff(steps, axis=0)).max() < 1


@needs_photo
def test_it_opens_as_a_source_of_any_size_and_rate() -> None:
    with open_capture("demo") as capture:
        assert (capture.name, capture.size, capture.fps) == ("demo", (640, 480), 30.0)
        assert (capture.policy, capture.live, capture.frame_count) == (FramePolicy.EVERY, False, None)
        assert [next(capture).index for _ in range(3)] == [0, 1, 2]
    with open_capture("demo", size=(320, 240), fps=10, paced=True) as capture:
        assert (capture.policy, capture.live) == (FramePolicy.LATEST, True)
        assert next(capture).pixels.shape == (240, 320, 3)


def test_every_photograph_is_hung_with_its_face_at_one_height() -> None:
    for photo in demo_camera.PHOTOS:
        picture = np.zeros((600, 512, 3), np.uint8)
        wall, face = hang_photo(picture, photo.face)
        assert face[3] - face[1] == pytest.approx(demo_camera.FACE_PX)
        assert 0 < face[0] < face[2] < wall.shape[1]
        assert 0 < face[1] < face[3] < wall.shape[0]


def test_without_a_photograph_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_camera, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'mien\[demo\]'"):
        open_capture("demo")


@needs_photo
def test_another_package_serves_when_the_first_lacks_its_photograph(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Spec:
        def __init__(self, folder: Path) -> None:
            self.submodule_search_locations = [str(folder)]

    photo = demo_camera.PHOTOS[1]
    file = tmp_path / photo.package / photo.path
    file.parent.mkdir(parents=True)
    file.touch()
    monkeypatch.setattr(demo_camera, "find_spec", lambda name: Spec(tmp_path / name))
    assert find_photo() == (file, photo)


@needs_photo
def test_the_photograph_is_found_without_importing_its_package() -> None:
    code = (
        "import sys; from mien.runtime.capture.demo_camera import find_photo; find_photo();"
        "sys.exit(any(name in sys.modules for name in ('matplotlib', 'skimage')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@needs_photo
def test_the_photograph_is_the_one_the_face_was_marked_in() -> None:
    path, photo = find_photo()
    height, width = read_image(path).shape[:2]
    assert (width, height) == {"matplotlib": (512, 600), "skimage": (512, 512)}[photo.package]
