"""Draw a pair of glasses on every face and write a video: python examples/own_overlay.py [SOURCE] [OUTPUT]"""

import sys

import cv2
import numpy as np

from mien import Faces, Pipeline, open_capture


def draw_glasses(picture: np.ndarray, faces: Faces) -> None:
    """Draw on the picture in place; points 36 to 41 are one eye, 42 to 47 the other (iBUG's order)."""
    for points in faces.landmarks[..., :2]:
        if not np.isfinite(points).all():  # the face is too small for landmarks
            continue
        eyes = [points[36:42].mean(axis=0), points[42:48].mean(axis=0)]
        radius = int(0.4 * np.linalg.norm(eyes[1] - eyes[0]))
        centres = [tuple(eye.round().astype(int).tolist()) for eye in eyes]
        for centre in centres:
            cv2.circle(picture, centre, radius, (40, 40, 40), max(1, radius // 6), cv2.LINE_AA)
        cv2.line(picture, centres[0], centres[1], (40, 40, 40), max(1, radius // 8), cv2.LINE_AA)


source = sys.argv[1] if len(sys.argv) > 1 else "0"
output = sys.argv[2] if len(sys.argv) > 2 else "glasses.mp4"
with Pipeline.load(attributes=False) as pipeline, open_capture(source) as capture:
    video = None
    for frame, faces in pipeline.track(capture):
        picture = frame.pixels.copy()
        draw_glasses(picture, faces)
        if video is None:
            size = (picture.shape[1], picture.shape[0])
            video = cv2.VideoWriter(output, cv2.VideoWriter.fourcc(*"mp4v"), capture.fps or 30, size)
            if not video.isOpened():
                raise SystemExit(f"{output} cannot be written")
        video.write(picture)
    if video is not None:
        video.release()
        print(f"wrote {output}")
