"""Simulates a camera that films a photograph: source ``demo``, which needs no camera and no download."""

from __future__ import annotations

import math
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np

from ..errors import InputError
from ..pictures.images import read_image
from ..values import FloatArray, Image
from ..vision.geometry import transform_points
from .sources import OpenedSource, RawFrame, SourceInfo, SourceOptions

DEMO_SIZE = (640, 480)
DEMO_FPS = 30.0
FACE_PX = 200.0
"""Height of the face on the wall, forehead to chin; in a 480 px high view it appears 125 to 295 px high."""


@dataclass(frozen=True, slots=True)
class Photo:
    """A photograph shipped with another package.

    Attributes:
        package: Name of the package.
        path: Path of the file within it.
        face: Box of the face, forehead to chin, as (x1, y1, x2, y2) in px.
    """

    package: str
    path: str
    face: tuple[float, float, float, float]


PHOTOS = (
    Photo("matplotlib", "mpl-data/sample_data/grace_hopper.jpg", (172.0, 128.0, 366.0, 336.0)),
    Photo("skimage", "data/astronaut.png", (175.0, 62.0, 275.0, 187.0)),
)


def find_photo() -> tuple[Path, Photo]:
    """Find the first installed photograph, without importing its package.

    Raises:
        InputError: None is installed.
    """
    for photo in PHOTOS:
        spec = find_spec(photo.package)
        for folder in (spec.submodule_search_locations or ()) if spec else ():
            path = Path(folder) / photo.path
            if path.is_file():
                return path, photo
    raise InputError(
        "source demo needs a sample photograph from matplotlib or scikit-image, neither of which is installed; "
        "run: pip install 'mien[demo]'"
    )


class DemoCamera:
    """Deterministic source that pans, zooms and tilts over a photograph on a wall.

    Args:
        size: (width, height) in px of the view.
        fps: Frame rate.
    """

    def __init__(self, *, size: tuple[int, int] = DEMO_SIZE, fps: float = DEMO_FPS) -> None:
        path, photo = find_photo()
        self._wall, self._face = hang_photo(read_image(path), photo.face)
        self._size = size
        self._fps = fps
        self._next = 0
        self._closed = False

    def read(self) -> RawFrame | None:
        """See `Source`; the demo camera never ends by itself."""
        if self._closed:
            return None
        index = self._next
        self._next += 1
        return self.frame(index), round(index * 1e9 / self._fps)

    def frame(self, index: int) -> Image:
        """Render picture (h, w, 3) number `index`."""
        matrix = self._matrix(index)
        view = cv2.warpAffine(self._wall, matrix, self._size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return np.asarray(view, dtype=np.uint8)

    def face_corners(self, index: int) -> FloatArray:
        """Compute the corners (4, 2) in px of the face in picture `index`, clockwise from the top left."""
        x0, y0, x1, y1 = self._face
        corners = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])
        return transform_points(corners, self._matrix(index))

    def close(self) -> None:
        """End the source."""
        self._closed = True

    def _matrix(self, index: int) -> FloatArray:
        x0, y0, x1, y1 = self._face
        return view_matrix(index / self._fps, centre=((x0 + x1) / 2, (y0 + y1) / 2), size=self._size)


def open_demo(source: str, options: SourceOptions) -> OpenedSource:
    """Open the demo camera.

    Raises:
        InputError: No package with a sample photograph is installed.
    """
    size, fps = options.size or DEMO_SIZE, options.fps or DEMO_FPS
    return OpenedSource(DemoCamera(size=size, fps=fps), SourceInfo(source, size=size, fps=fps))


def view_matrix(seconds: float, *, centre: tuple[float, float], size: tuple[int, int]) -> FloatArray:
    """Compute the affine matrix (2, 3) from wall px to view px.

    The periods of the movements have no small common multiple, so the video does not visibly repeat.

    Args:
        seconds: Time since the start.
        centre: Centre (x, y) of the face on the wall.
        size: (width, height) in px of the view.
    """
    width, height = size
    unit = min(width / 640, height / 480)
    face_px = (210 + 85 * _wave(seconds, 13.7, 0.6)) * unit
    roll = math.radians(8 * _wave(seconds, 9.1, 0.0) + 2 * _wave(seconds, 3.7, 2.0))
    # With a margin of 0.72 times its height around its centre, the face stays in view at any of these rolls.
    u = width / 2 + (width / 2 - 0.72 * face_px) * 0.9 * _wave(seconds, 8.3, 1.0)
    v = height / 2 + (height / 2 - 0.72 * face_px) * 0.9 * _wave(seconds, 5.9, 2.5)
    zoom = face_px / FACE_PX
    cos, sin = zoom * math.cos(roll), zoom * math.sin(roll)
    x, y = centre
    return np.array([[cos, -sin, u - cos * x + sin * y], [sin, cos, v - sin * x - cos * y]])


def _wave(seconds: float, period_s: float, phase: float) -> float:
    return math.sin(2 * math.pi * seconds / period_s + phase)


def hang_photo(photo: Image, face: tuple[float, float, float, float]) -> tuple[Image, tuple[float, ...]]:
    """Render a photograph on a wall, scaled so that the face is `FACE_PX` high.

    Args:
        photo: (h, w, 3) uint8 BGR.
        face: Box (x1, y1, x2, y2) of the face in px.

    Returns:
        The picture of the wall, and the box of the face in it.
    """
    zoom = FACE_PX / (face[3] - face[1])
    resized = cv2.resize(photo, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_AREA if zoom < 1 else cv2.INTER_CUBIC)
    passepartout = cv2.copyMakeBorder(resized, 26, 26, 26, 26, cv2.BORDER_CONSTANT, value=(232, 238, 240))
    framed = cv2.copyMakeBorder(passepartout, 9, 9, 9, 9, cv2.BORDER_CONSTANT, value=(38, 44, 52))
    height, width = framed.shape[:2]
    left, top = 420, 360
    wall = _plain_wall(height + 2 * top, width + 2 * left)
    wall = _with_shadow(wall, left, top, width, height)
    wall[top : top + height, left : left + width] = framed
    offset = np.array([left + 35, top + 35] * 2)
    return wall, tuple(float(v) for v in np.array(face) * zoom + offset)


def _plain_wall(height: int, width: int) -> Image:
    """Render a wall (height, width, 3) lit from the upper left, with slight grain."""
    y, x = np.mgrid[0 : 1 : complex(height), 0 : 1 : complex(width)]
    light = 1.0 - 0.22 * np.hypot(x - 0.3, y - 0.2)
    grain = np.random.default_rng(0).normal(0, 0.006, (height, width))
    tone = np.array([176.0, 186.0, 190.0])
    return np.clip((light + grain)[..., None] * tone, 0, 255).astype(np.uint8)


def _with_shadow(wall: Image, left: int, top: int, width: int, height: int) -> Image:
    shadow = np.zeros(wall.shape[:2], dtype=np.float32)
    shadow[top + 14 : top + height + 14, left + 10 : left + width + 10] = 0.45
    shadow = cv2.GaussianBlur(shadow, (0, 0), 12).astype(np.float32)
    return (wall * (1.0 - shadow[..., None])).astype(np.uint8)
