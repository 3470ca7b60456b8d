"""Clips of moving faces with ground truth: heads cut out of labelled photographs move over a drawn background.

What the clips show, where and to whom each face belongs follows from the photographs and a seed alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from ...runtime.errors import InputError
from ...runtime.pictures.images import read_image
from ...runtime.values import FloatArray, Frame, Image
from ...runtime.vision.geometry import box_from_bounds, landmark_bounds, roll_of, transform_points
from ..data.landmark_labels import LandmarkTable, read_landmarks

SIZE = (480, 270)
"""Width and height of the clips, px."""
FPS = 25
LEAST_EYES_PX, MOST_ROLL, FRONTAL = 40.0, 0.25, (0.38, 0.62)
"""Photographs that are used: eye distance, rotation in radians, place of the nose's tip between the eyes."""
HEAD = np.array([-0.25, -0.3, 0.25, 0.12])
"""What belongs to a head beyond the box of its face, in box sides."""
NOD = 0.07
"""Amplitude of each head's rotation in the picture plane, radians."""
PILLAR = -2
"""Who is seen where the pillar is; -1 for the background."""

Path2D = Callable[[float], tuple[float, float, float]]
"""Centre x, y and width of a face in px, by the time in s."""


@dataclass(frozen=True, slots=True)
class Head:
    """Cut-out photograph of a person.

    Attributes:
        pictures: Colours and opacity (h, w, 4), uint8, at whole, half, quarter size and so on.
        points: Landmarks (68, 2), px of the whole size.
    """

    pictures: tuple[Image, ...]
    points: FloatArray


@dataclass(frozen=True, slots=True)
class Actor:
    """Person of a scene, with the face's path."""

    person: int
    path: Path2D


@dataclass(frozen=True, slots=True)
class Scene:
    """Part of a clip between two cuts.

    Attributes:
        seconds: Duration.
        actors: Who is in it, the one in front first.
        camera: Shift x, y in px and zoom by the time in s.
        pillar: Left and right border of a pillar in front of all, px.
    """

    seconds: float
    actors: Sequence[Actor]
    camera: Path2D = lambda _: (0.0, 0.0, 1.0)
    pillar: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Truth:
    """Faces of a frame: persons (n,), boxes (n, 4), landmarks (n, 68, 2) px, and the share (n,) of each in sight."""

    persons: FloatArray
    boxes: FloatArray
    points: FloatArray
    visible: FloatArray


def frontal_faces(folder: Path) -> LandmarkTable:
    """Read the labels of photographs from which heads can be cut out.

    Raises:
        InputError: The folder is in no format of `read_landmarks`.
    """
    table = read_landmarks(folder)
    eyes = table.points[:, [36, 45]]
    apart = eyes[:, 1] - eyes[:, 0]
    length = np.linalg.norm(apart, axis=1)
    nose = ((table.points[:, 30] - eyes[:, 0]) * apart).sum(axis=1) / np.maximum(length, 1) ** 2
    level = np.abs(roll_of(table.points)) < MOST_ROLL
    return table.mask((length >= LEAST_EYES_PX) & level & (nose > FRONTAL[0]) & (nose < FRONTAL[1]))


def pick_heads(table: LandmarkTable, rng: np.random.Generator, count: int) -> list[Head]:
    """Cut out the heads of different persons.

    Raises:
        InputError: There are fewer whose heads are whole in their pictures.
    """
    chosen: dict[str, Head] = {}
    for row in rng.permutation(len(table)).tolist():
        if len(chosen) == count:
            break
        if table.subjects[row] not in chosen:
            head = _cut_out(read_image(table.files[row]), table.points[row])
            if head is not None:
                chosen[table.subjects[row]] = head
    if len(chosen) < count:
        raise InputError(f"expected {count} frontal persons, whole in their pictures; found {len(chosen)}")
    return list(chosen.values())


def render(scenes: Sequence[Scene], heads: Sequence[Head], *, seed: int) -> Iterator[tuple[Frame, Truth]]:
    """Draw the frames of a clip, with their truth."""
    index = 0
    for number, scene in enumerate(scenes):
        wall = _wall(np.random.default_rng([seed, number]))
        for i in range(round(scene.seconds * FPS)):
            pixels, truth = _draw(scene, heads, wall, i / FPS)
            yield Frame(pixels, timestamp_ns=round(index * 1e9 / FPS), index=index), truth
            index += 1


def _cut_out(picture: Image, points: FloatArray) -> Head | None:
    """Cut out a head with a soft border; None if it is not whole in the picture."""
    x0, y0, x1, y1 = box_from_bounds(landmark_bounds(points)).tolist()
    left, top, right, bottom = np.rint(np.array([x0, y0, x1, y1]) + HEAD * np.tile([x1 - x0, y1 - y0], 2)).astype(int)
    if left < 0 or top < 0 or right > picture.shape[1] or bottom > picture.shape[0]:
        return None
    colours = picture[top:bottom, left:right]
    height, width = colours.shape[:2]
    opacity = np.zeros((height, width), np.uint8)
    border = max(3, width // 16)
    centre, axes = (width // 2, height // 2), (width // 2 - border, height // 2 - border)
    cv2.ellipse(opacity, centre, axes, 0, 0, 360, (255,), -1)
    whole: Image = np.dstack([colours, cv2.GaussianBlur(opacity, (0, 0), border / 3)]).astype(np.uint8)
    pictures = [whole]
    while min(pictures[-1].shape[:2]) >= 16:
        half = (pictures[-1].shape[1] // 2, pictures[-1].shape[0] // 2)
        pictures.append(np.asarray(cv2.resize(pictures[-1], half, interpolation=cv2.INTER_AREA), np.uint8))
    return Head(tuple(pictures), points - [left, top])


def _wall(rng: np.random.Generator) -> Image:
    """Draw a background of spots of all sizes, three times as large as a frame."""
    width, height = 3 * SIZE[0], 3 * SIZE[1]
    wall: FloatArray = np.zeros((height, width, 3))
    for cell, contrast in ((160, 90), (48, 50), (14, 30), (4, 12)):
        spots = rng.uniform(-contrast, contrast, (height // cell + 2, width // cell + 2, 3))
        spots = (spots + 2 * spots[..., :1]) / 3  # mostly grey
        wall += cv2.resize(spots, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(wall + 120, 0, 255).astype(np.uint8)


def _draw(scene: Scene, heads: Sequence[Head], wall: Image, time_s: float) -> tuple[Image, Truth]:
    camera = _camera_matrix(*scene.camera(time_s))
    behind = camera.copy()
    behind[:, 2] -= camera[:, :2] @ SIZE  # the wall reaches one frame beyond each border
    pixels = np.asarray(cv2.warpAffine(wall, behind, SIZE, borderMode=cv2.BORDER_REFLECT), np.uint8)
    who = np.full(pixels.shape[:2], -1)
    points, sizes = [], []
    for number in reversed(range(len(scene.actors))):
        actor = scene.actors[number]
        head = heads[actor.person]
        x, y, width = actor.path(time_s)
        nod = NOD * np.sin(2 * time_s + actor.person)
        matrix = camera @ np.vstack([_placed(head.points, x, y, width, nod), [0, 0, 1]])
        opaque = _paste(pixels, head, matrix)
        who[opaque > 0.5] = number
        points.append(transform_points(head.points, matrix))
        sizes.append(np.linalg.det(matrix[:, :2]) * (head.pictures[0][..., 3] > 127).sum())
    if scene.pillar is not None:
        corners = transform_points(np.array([[scene.pillar[0], 0.0], [scene.pillar[1], 0.0]]), camera)
        first, last = np.clip(np.rint(corners[:, 0]), 0, SIZE[0]).astype(int)
        pixels[:, first:last] = wall[: SIZE[1], first:last] // 2
        who[:, first:last] = PILLAR
    placed = np.array(points[::-1]).reshape(-1, 68, 2)
    seen = np.array([(who == number).sum() for number in range(len(placed))]) / np.maximum(sizes[::-1], 1)
    persons = np.array([a.person for a in scene.actors])
    return pixels, Truth(persons, box_from_bounds(landmark_bounds(placed)), placed, seen)


def _camera_matrix(dx: float, dy: float, zoom: float) -> FloatArray:
    x, y = SIZE[0] / 2, SIZE[1] / 2
    return np.array([[zoom, 0, x - zoom * (x - dx)], [0, zoom, y - zoom * (y - dy)]])


def _placed(points: FloatArray, x: float, y: float, width: float, roll: float) -> FloatArray:
    """Return the map (2, 3) that brings the middle of a face's box to (x, y), at that width."""
    x0, y0, x1, y1 = box_from_bounds(landmark_bounds(points)).tolist()
    zoom = width / (x1 - x0)
    turned = zoom * np.array([[np.cos(roll), -np.sin(roll)], [np.sin(roll), np.cos(roll)]])
    return np.column_stack([turned, np.array([x, y]) - turned @ [(x0 + x1) / 2, (y0 + y1) / 2]])


def _paste(pixels: Image, head: Head, matrix: FloatArray) -> FloatArray:
    """Draw a head into a frame; return its opacity (h, w), 0 to 1."""
    zoom = float(np.sqrt(np.linalg.det(matrix[:, :2])))
    level = int(np.clip(np.floor(np.log2(1 / zoom)), 0, len(head.pictures) - 1))
    step = head.pictures[0].shape[1] / head.pictures[level].shape[1]
    scaled = np.column_stack([matrix[:, :2] * step, matrix[:, 2] + matrix[:, :2] @ np.full(2, (step - 1) / 2)])
    corners = transform_points(np.array([[0.0, 0.0], [1, 0], [0, 1], [1, 1]]) * head.pictures[0].shape[1::-1], matrix)
    left, top = np.clip(np.floor(corners.min(axis=0)), 0, SIZE).astype(int)
    right, bottom = np.clip(np.ceil(corners.max(axis=0)) + 1, 0, SIZE).astype(int)
    opacity: FloatArray = np.zeros(pixels.shape[:2], np.float32)
    if left < right and top < bottom:
        scaled[:, 2] -= [left, top]
        warped = cv2.warpAffine(head.pictures[level], scaled, (int(right - left), int(bottom - top)))
        opacity[top:bottom, left:right] = warped[..., 3].astype(np.float32) / 255
        below = pixels[top:bottom, left:right]
        mixed = below + opacity[top:bottom, left:right, None] * (warped[..., :3].astype(np.float32) - below)
        below[:] = np.rint(mixed).astype(np.uint8)
    return opacity
