"""Geometry of pictures: boxes, crops, affine maps, the mean face, head pose."""
