"""How far the labels of each data set lie beside the face, which decides where those of a mirrored picture lie."""

from __future__ import annotations

import logging

import numpy as np
import torch
from torch import nn

from ....bench.data.landmark_labels import MIRRORED, LandmarkTable
from ....runtime.values import FloatArray
from ....runtime.vision.geometry import landmark_bounds, longer_side
from ..batches import predict_batches
from .landmark_crops import validation_crops

FACES = 400
"""Faces of each data set to measure; the median of so many is exact to a few hundredths of a px."""
log = logging.getLogger("mien")


def label_offsets(net: nn.Module, table: LandmarkTable, size: int) -> FloatArray:
    """Measure by a trained network how far the labels of each data set are shifted to the right.

    Data sets number pixels in their own ways, so their labels lie some tenths of a px to one side. A network that
    learnt them predicts that offset for a picture and also, to the other side of the face, for its mirror image; the
    mean of both predictions is free of it.

    Args:
        net: Landmark network.
        table: Labelled faces.
        size: Side of the network's crops in px.

    Returns:
        Offset (n,) of each face's labels, in px of its picture.
    """
    sources = np.array(table.sources)
    shares = np.zeros(len(table))
    for source in np.unique(sources):
        rows = np.flatnonzero(sources == source)
        some = table.mask(rows[:: max(1, len(rows) // FACES)])
        shares[rows] = np.median(_shares(net, some, size))
        log.info("labels of %s are shifted to the right by %.2f %% of the face's size", source, 100 * shares[rows[0]])
    return shares * longer_side(landmark_bounds(table.points))


def _shares(net: nn.Module, table: LandmarkTable, size: int) -> FloatArray:
    pixels, points = validation_crops(table, size)
    plain = predict_batches(net, torch.from_numpy(pixels))[0].numpy()[..., 0]
    mirror = np.ascontiguousarray(pixels[:, :, ::-1])
    mirrored = 1 - predict_batches(net, torch.from_numpy(mirror))[0].numpy()[:, MIRRORED, 0]
    sides = longer_side(landmark_bounds(points))
    return np.asarray((points[..., 0] - (plain + mirrored) / 2).mean(axis=1) / sides)
