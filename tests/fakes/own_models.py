"""Models of a user: the shipped ones with a constant added to one output, which tells in a face's row who made it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from mien.runtime.models.model_file import ModelFile
from mien.runtime.models.shipped import shipped_model
from mien.runtime.models.spec import METADATA_KEY

ADDED = {
    "landmarks": ("landmarks", np.float32([0, 0, 1])),
    "detector": ("scores", np.float32(-0.04)),
    "age_gender": ("age", np.float32(25)),
}
"""Output of each model, and what is added to it: depths in sides of the crop, a score, years."""


def write_own_model(path: Path, name: str, *, without: str | None = None) -> Path:
    """Write a model that differs from the shipped one, and return its path.

    Args:
        path: File to write.
        name: ``landmarks``, ``detector`` or ``age_gender``.
        without: Output to leave out, as the textbook's networks do.
    """
    spec = ModelFile.of(shipped_model(name)).metadata
    model = onnx.load(str(shipped_model(name)))
    output, constant = ADDED[name]
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = ["usual" if tensor == output else tensor for tensor in names]
    model.graph.initializer.append(numpy_helper.from_array(np.asarray(constant), "added"))
    model.graph.node.append(helper.make_node("Add", ["usual", "added"], [output]))
    kept = [value for value in model.graph.output if value.name != without]
    del model.graph.output[:]
    model.graph.output.extend(kept)
    assert spec is not None
    spec = replace(spec, outputs=tuple(value.name for value in kept))
    helper.set_model_props(model, {METADATA_KEY: spec.to_json()})
    onnx.save(model, str(path))
    return path


def own_models_of(face: dict[str, Any], usual: dict[str, Any], *, within_px: float = 0.1) -> set[str]:
    """Name the models of `write_own_model` that made a face's row; `usual` is its row from the shipped ones."""
    points, before = (np.array(row["landmarks"], float) for row in (face, usual))
    assert np.abs((points - before)[:, :2]).max() < within_px
    crop_side = 1.3 * np.ptp(before[:, :2], axis=0).max()
    changes = {
        "landmarks": (points - before)[:, 2].mean() / crop_side,
        "detector": face["score"] - usual["score"],
        "age_gender": face["age"] - usual["age"],
    }
    own = {name for name, change in changes.items() if abs(change) > 0.001}
    for name in own:
        assert abs(changes[name] / np.max(ADDED[name][1]) - 1) < 0.05, (name, changes)
    return own
