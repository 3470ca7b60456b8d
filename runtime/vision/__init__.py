"""Picture geometry: boxes, crops, affine maps, the mean face, head pose."""
