"""Track faces from a camera, a file or a stream: python examples/embed.py [SOURCE]."""

import sys

from mien import Pipeline, open_capture

with Pipeline.load() as pipeline, open_capture(sys.argv[1] if len(sys.argv) > 1 else "0") as capture:
    for frame, faces in pipeline.track(capture):
        for face in faces:
            print(f"frame {frame.index}, face {face.track_id}: nose at {face.landmarks[30, :2].round(1)} px")
