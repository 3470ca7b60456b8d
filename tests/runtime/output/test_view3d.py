from __future__ import annotations

import base64
import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from mien.runtime.errors import InputError
from mien.runtime.output.view3d import face_views, surface, write_view
from mien.runtime.values import Faces
from mien.tests.conftest import mean_shape


def one_face(scale: float = 200.0, left: float = 30.0, top: float = 20.0) -> Faces:
    points = np.concatenate([mean_shape() * scale + [left, top], np.linspace(-9, 9, 68)[:, None]], axis=1)
    box = np.array([[*points[:, :2].min(axis=0), *points[:, :2].max(axis=0)]])
    return Faces.from_boxes(box, np.ones(1)).with_fields(landmarks=points[None])


def test_the_texture_shows_what_lies_at_the_landmarks() -> None:
    picture = np.zeros((260, 300, 3), np.uint8)
    faces = one_face()
    for n, (x, y) in enumerate(faces.landmarks[0, :, :2]):
        cv2.circle(picture, (round(x), round(y)), 3, (0, 60 + 2 * n, 255), -1)
    (view,) = face_views("photo.jpg", picture, faces)
    texture = cv2.imdecode(np.frombuffer(view.texture, np.uint8), cv2.IMREAD_COLOR)
    at = (view.places * [texture.shape[1], texture.shape[0]]).astype(int)
    assert view.name == "photo.jpg, face 1"
    for n in (8, 30, 36, 45):
        assert texture[at[n, 1], at[n, 0]].astype(int) == pytest.approx([0, 60 + 2 * n, 255], abs=40)


def test_points_are_centred_and_keep_their_proportions() -> None:
    (view,) = face_views("a", np.zeros((260, 300, 3), np.uint8), one_face())
    extent = np.ptp(view.points, axis=0)
    assert max(extent[:2]) == pytest.approx(2) and view.points[:, 2].mean() == pytest.approx(0, abs=1e-9)
    assert extent[2] / extent[1] == pytest.approx(18 / np.ptp(one_face().landmarks[0, :, 1]))


def test_large_faces_get_a_small_texture_and_faces_beyond_the_border_one_too() -> None:
    (large,) = face_views("a", np.zeros((3000, 3000, 3), np.uint8), one_face(2800))
    assert max(cv2.imdecode(np.frombuffer(large.texture, np.uint8), 0).shape) <= 513
    (outside,) = face_views("a", np.zeros((100, 100, 3), np.uint8), one_face(200, -80, -90))
    assert np.isfinite(outside.points).all() and outside.texture


def test_faces_without_landmarks_are_left_out() -> None:
    assert not list(face_views("a", np.zeros((9, 9, 3), np.uint8), Faces.from_boxes(np.ones((2, 4)), np.ones(2))))


def test_the_surface_covers_the_face_once() -> None:
    triangles = surface()
    assert {i for triangle in triangles for i in triangle} == set(range(68))
    points = one_face().landmarks[0, :, :2]
    hull = cv2.contourArea(cv2.convexHull(points.astype(np.float32)))
    area = sum(cv2.contourArea(points[triangle].astype(np.float32)) for triangle in triangles)
    assert area == pytest.approx(hull, rel=0.05)


def test_the_page_is_whole_and_a_name_cannot_break_out_of_it(tmp_path: Path) -> None:
    name = "</script><script>alert(1)</script>"
    views = list(face_views(name, np.zeros((260, 300, 3), np.uint8), one_face()))
    write_view(views, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert page.count("</script>") == 1 and not re.search(r"""(src|href)=["']""", page)
    content = json.loads(re.search(r"const content = (.*);", page)[1])
    (face,) = content["faces"]
    assert face["name"].startswith(name) and len(face["points"]) == len(face["places"]) == 68
    assert base64.b64decode(face["texture"].partition(",")[2]) == views[0].texture
    with pytest.raises(InputError, match="no face"):
        write_view([], tmp_path / "none.html")
