"""Count the faces that enter a region: python examples/count_in_region.py [SOURCE] [LEFT,TOP,RIGHT,BOTTOM]

The region is given as fractions of the picture, so that it fits any resolution: 0.5,0,1,1 is the right half.
"""

import sys

import numpy as np

from mien import Pipeline, open_capture

source = sys.argv[1] if len(sys.argv) > 1 else "0"
region = np.array([float(share) for share in (sys.argv[2] if len(sys.argv) > 2 else "0.5,0,1,1").split(",")])
entered: set[int] = set()
with Pipeline.load(attributes=False) as pipeline, open_capture(source) as capture:
    for frame, faces in pipeline.track(capture):
        height, width = frame.pixels.shape[:2]
        centres = faces.boxes.reshape(-1, 2, 2).mean(axis=1) / [width, height]
        inside = ((centres >= region[:2]) & (centres < region[2:])).all(axis=1)
        for track in set(faces.track_id[inside].tolist()) - entered:
            print(f"frame {frame.index}: face {track} entered the region")
            entered.add(track)
print(f"faces that entered the region: {len(entered)}")
