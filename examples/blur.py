"""Hide all faces in a video or from a camera: python examples/blur.py [SOURCE] [OUTPUT]

`mien webcam SOURCE --blur --output OUTPUT --no-show` does the same, and preserves the times of the frames.
"""

import sys

import cv2

from mien import Pipeline, blur_faces, open_capture

source = sys.argv[1] if len(sys.argv) > 1 else "0"
output = sys.argv[2] if len(sys.argv) > 2 else "blurred.mp4"
with Pipeline.load(attributes=False, min_score=0.3, max_side=960) as pipeline, open_capture(source) as capture:
    video = None
    for frame, faces in pipeline.track(capture, thorough=True):  # every possible face, including those just lost
        picture = blur_faces(frame.pixels, faces)
        if video is None:
            size = (picture.shape[1], picture.shape[0])
            video = cv2.VideoWriter(output, cv2.VideoWriter.fourcc(*"mp4v"), capture.fps or 30, size)
            if not video.isOpened():
                raise SystemExit(f"{output} cannot be written")
        video.write(picture)
    if video is not None:
        video.release()
        print(f"wrote {output}")
