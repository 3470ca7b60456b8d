"""Shows faces in 3D on an interactive HTML page: the surface of the landmarks, textured with the photograph."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from ..atomic_file import write_report
from ..errors import InputError
from ..pictures.images import encode_image
from ..values import Faces, FloatArray, Image, size_of
from ..vision.mean_face import CANONICAL
from .overlay import CONTOURS

PAGE = Path(__file__).with_name("view3d.html")
TEXTURE_SIDE = 512
"""Longest side of a face's texture in px: more than a screen shows, and about 50 kB."""
MARGIN = 0.1
"""Margin on each side of the texture, as a fraction of the landmarks' extent."""


@dataclass(frozen=True, slots=True)
class FaceView:
    """One face of the page.

    Attributes:
        name: Title of the face.
        points: Landmarks (68, 3), centred, in units of half the larger extent: x right, y down, z away from the camera.
        texture: JPEG of the face.
        places: Landmarks (68, 2) in the texture, from 0 to 1.
    """

    name: str
    points: FloatArray
    texture: bytes
    places: FloatArray


def face_views(name: str, picture: Image, faces: Faces) -> Iterator[FaceView]:
    """Cut the faces out of a picture for the page; faces without landmarks are left out.

    Args:
        name: Name of the picture.
        picture: Image (h, w, 3) uint8 BGR.
        faces: Its faces, in px.
    """
    for number, points in enumerate(faces.landmarks, start=1):
        if np.isfinite(points[:, :2]).all():
            yield _face_view(f"{name}, face {number}", picture, np.nan_to_num(points))


def _face_view(name: str, picture: Image, points: FloatArray) -> FaceView:
    low, high = points[:, :2].min(axis=0), points[:, :2].max(axis=0)
    extent = float(max(high - low).clip(1e-3))
    start = low - MARGIN * extent
    scale = min(1.0, TEXTURE_SIDE / ((1 + 2 * MARGIN) * extent))
    size = np.ceil((high - low + 2 * MARGIN * extent) * scale).astype(int).clip(1)
    to_texture = np.array([[scale, 0, -scale * start[0]], [0, scale, -scale * start[1]]])
    border = cv2.BORDER_REPLICATE
    left, top = np.clip(np.floor(start).astype(int), 0, np.array(size_of(picture)) - 1).tolist()
    window = picture[top : top + math.ceil(size[1] / scale) + 2, left : left + math.ceil(size[0] / scale) + 2]
    to_texture[:, 2] += scale * np.array([left, top])  # OpenCV 4 refuses to warp whole pictures of 32,767 px
    cut = np.asarray(cv2.warpAffine(window, to_texture, size.tolist(), borderMode=border), np.uint8)
    middle = np.array([*(low + high) / 2, points[:, 2].mean()])
    return FaceView(
        name, (points - middle) / (extent / 2), encode_image(cut, suffix=".jpg"), (points[:, :2] - start) * scale / size
    )


def surface() -> list[list[int]]:
    """Triangulate the landmarks of the mean face seen from the front (Delaunay).

    Returns:
        Triangles, each as the indices of three landmarks.
    """
    points = np.round(CANONICAL[:, :2] * 1000 + 2000).astype(np.float32)
    plane = cv2.Subdiv2D((0, 0, 4000, 4000))
    plane.insert([tuple(point) for point in points.tolist()])
    index = {tuple(point): i for i, point in enumerate(points.tolist())}
    corners = np.asarray(plane.getTriangleList()).reshape(-1, 3, 2).tolist()
    return [[index[tuple(c)] for c in triangle] for triangle in corners if all(tuple(c) in index for c in triangle)]


def write_view(views: Sequence[FaceView], path: Path) -> None:
    """Write a self-contained page with a menu of the faces; it needs no network.

    Args:
        views: Faces to show.
        path: File to write.

    Raises:
        InputError: There is no face to show.
        OutputError: `path` cannot be written.
    """
    if not views:
        raise InputError("no face was found, so there is nothing to show in 3D")
    content = {
        "triangles": surface(),
        "lines": [[*range(a, b + 1), *([a] if closed else [])] for a, b, closed in CONTOURS],
        "faces": [
            {
                "name": view.name,
                "points": view.points.round(4).tolist(),
                "places": view.places.round(4).tolist(),
                "texture": "data:image/jpeg;base64," + base64.b64encode(view.texture).decode(),
            }
            for view in views
        ],
    }
    # Escaping "<" keeps file names from ending the script element.
    data = json.dumps(content, separators=(",", ":")).replace("<", "\\u003c")
    write_report(path, PAGE.read_text(encoding="utf-8").replace("/*content*/", data))
