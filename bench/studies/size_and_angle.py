"""Faces found over their size and their angle: ``python -m mien.bench.studies.size_and_angle FOLDER --plot FILE``.

FOLDER holds labelled photographs, as for ``mien train landmarks``. Each held-out face is scaled into a picture of at
least 640 px, up to one that it fills and exceeds, and is turned in the picture plane. A face counts as found if a box
overlaps its own by an IoU of 0.4; in the second curve, if its landmarks are right too (NME below 8 %).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from ...runtime.models.runner import Provider
from ...runtime.models.spec import Precision
from ...runtime.pictures.images import read_image
from ...runtime.pipeline.pipeline import Pipeline
from ...runtime.values import Faces, FloatArray, Image
from ...runtime.vision.geometry import (
    box_from_bounds,
    intersection_over_union,
    landmark_bounds,
    longer_side,
    transform_points,
)
from ..accuracy.metrics import FAILURE_PERCENT, normalized_mean_error
from ..data.landmark_labels import LandmarkTable, read_landmarks
from ..data.splits import held_out

SIZES_PX = (8, 10, 12, 16, 20, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 640, 768, 1024, 1448, 2000)
"""Longer sides of the faces' boxes."""
ANGLES = range(0, 360, 15)
"""Rotations in degrees, clockwise."""
TURNED_PX = 160
"""Size of the faces that are turned."""
PICTURE_PX = 640
"""Minimum side of the pictures."""
FOUND_IOU = 0.4
NOISY = ("ytf",)
"""Sources that are left out: frames of videos, whose faces are too small to be enlarged."""

Found = Callable[[Faces, FloatArray], bool]
"""Tells whether the faces found in a picture include that with the given landmarks (68, 2)."""


@dataclass(frozen=True, slots=True)
class Portrait:
    """Photograph of a face.

    Attributes:
        pixels: Picture (h, w, 3), uint8 BGR.
        points: Landmarks (68, 2), px.
    """

    pixels: Image
    points: FloatArray

    def placed(self, size_px: float, degrees: float = 0.0) -> Portrait:
        """Return a square picture with the face in its middle, at a given size and angle."""
        side = max(PICTURE_PX, round(size_px))
        box = box_from_bounds(landmark_bounds(self.points))
        middle = (box[:2] + box[2:]) / 2
        zoom = size_px / float(longer_side(box[None])[0])
        matrix = np.array(cv2.getRotationMatrix2D((float(middle[0]), float(middle[1])), -degrees, zoom), np.float64)
        matrix[:, 2] += side / 2 - middle
        pixels, points = self.pixels, transform_points(self.points, matrix)
        while zoom <= 0.5:  # warpAffine averages no pixels
            pixels = np.asarray(cv2.resize(pixels, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA), np.uint8)
            matrix[:, 2] += matrix[:, :2].sum(axis=1) / 2  # index in the picture = 2 · index in the half + 0.5
            matrix[:, :2] *= 2
            zoom *= 2
        warped = cv2.warpAffine(pixels, matrix, (side, side), borderMode=cv2.BORDER_REPLICATE)
        return Portrait(np.asarray(warped, dtype=np.uint8), points)


def read_portraits(table: LandmarkTable, count: int) -> list[Portrait]:
    """Read the photographs of some of the held-out faces, evenly over the table."""
    kept = held_out(table.subjects) & ~np.isin(table.sources, NOISY)
    rows = np.flatnonzero(kept)
    chosen = rows[np.linspace(0, len(rows) - 1, min(count, len(rows))).round().astype(int)]
    return [Portrait(read_image(table.files[i]), table.points[i]) for i in chosen.tolist()]


def has_box(faces: Faces, points: FloatArray) -> bool:
    """Return whether a box is that of the face."""
    box = box_from_bounds(landmark_bounds(points))[None]
    return bool((intersection_over_union(faces.boxes, box) >= FOUND_IOU).any())


def has_landmarks(faces: Faces, points: FloatArray) -> bool:
    """Return whether the landmarks of a face are right."""
    errors = [normalized_mean_error(found[None, :, :2], points[None])[0] for found in faces.landmarks]
    return any(error < FAILURE_PERCENT for error in errors)


def share_found(pipeline: Pipeline, pictures: Sequence[Portrait], found: Found) -> float:
    """Return the percentage of pictures in which the face is found."""
    return 100 * float(np.mean([found(pipeline(p.pixels), p.points) for p in pictures]))


def plot(row: dict[str, dict[str, float]], path: Path) -> None:
    """Draw both curves into a picture."""
    import matplotlib.pyplot as plt

    figure, (by_size, by_angle) = plt.subplots(1, 2, figsize=(11, 3.6), sharey=True, layout="constrained")
    by_size.semilogx([int(px) for px in row["size_px"]], list(row["size_px"].values()), "o-", base=2)
    by_size.set(xlabel="longer side of the face, px", ylabel="faces found, %", ylim=(0, 103))
    by_size.xaxis.set_major_formatter("{x:g}")
    by_angle.plot([int(a) for a in row["degrees"]], list(row["degrees"].values()), "o-")
    by_angle.set(xlabel="rotation in the picture, degrees", title=f"landmarks right, faces of {TURNED_PX} px")
    by_size.set_title("box right")
    by_angle.set_xticks(range(0, 361, 45))
    for axes in (by_size, by_angle):
        axes.grid(alpha=0.3)
    figure.savefig(path)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print one JSON object and draw the curves."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--faces", type=int, default=60, help="number of photographs")
    parser.add_argument("--precision", type=Precision, choices=list(Precision), help="precision of the shipped models")
    parser.add_argument("--detector", type=Path, help="detector instead of the shipped one, such as YuNet")
    parser.add_argument("--plot", type=Path, help="picture to draw the curves into (.svg, .png)")
    options = parser.parse_args(arguments)
    portraits = read_portraits(read_landmarks(options.folder), options.faces)
    with Pipeline.load(
        attributes=False, provider=Provider.CPU, precision=options.precision, detector=options.detector
    ) as pipeline:
        row = {
            "size_px": {str(s): share_found(pipeline, [p.placed(s) for p in portraits], has_box) for s in SIZES_PX},
            "degrees": {
                str(a): share_found(pipeline, [p.placed(TURNED_PX, a) for p in portraits], has_landmarks)
                for a in ANGLES
            },
        }
    print(json.dumps(row, indent=2))
    if options.plot is not None:
        plot(row, options.plot)


if __name__ == "__main__":
    main()
