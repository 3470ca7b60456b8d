"""A backbone that is exported in two seconds, where the real ones take torch.onnx.export ten; what else saves time."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from mien.export.networks.backbones import ARCHITECTURES, Architecture
from mien.export.training import run_state
from mien.runtime.backends.ort import onnx_session

SMALL = "small"


class SmallBackbone(torch.nn.Module):
    """Four convolutions, one to a stage, in the form of a torchvision model."""

    def __init__(self, weights: str | None = None) -> None:
        super().__init__()
        widths = (3, 16, 32, 64, 128)
        self.features = torch.nn.Sequential(
            *(
                torch.nn.Sequential(
                    torch.nn.Conv2d(before, after, 3, 4 if before == 3 else 2, 1, bias=False),
                    torch.nn.BatchNorm2d(after),
                    torch.nn.ReLU(),
                )
                for before, after in itertools.pairwise(widths)
            )
        )


@pytest.fixture(scope="session", autouse=True)
def small_backbone() -> Iterator[str]:
    """Make the small backbone known by its name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ARCHITECTURES, SMALL, Architecture(SmallBackbone, (1, 2, 3, 4)))
        yield SMALL


@pytest.fixture(scope="module", autouse=True)
def no_first_try() -> Iterator[None]:
    """Open the models that tests make without a process for each, which tests/runtime/test_isolated.py tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnx_session, "try_first", lambda *_, **__: None)
        yield


@pytest.fixture(scope="module", autouse=True)
def no_curves() -> Iterator[None]:
    """Draw no curves, which would take most of the time of a small training; test_training.py draws them once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_state, "plot_run", lambda *_, **__: None)
        yield


@pytest.fixture
def boxed_folder(tmp_path: Path) -> Path:
    """A folder in the detector's format: 12 pictures, a disc in each."""
    folder = tmp_path / "boxed"
    (folder / "images").mkdir(parents=True)
    rows = []
    for i in range(12):
        picture = np.full((96, 96, 3), 15 * i, np.uint8)
        x, y, side = 8 + 3 * i, 40 - 2 * i, 20 + 2 * i
        cv2.circle(picture, (x + side // 2, y + side // 2), side // 2, (120, 160, 220), -1)
        cv2.imwrite(str(folder / "images" / f"{i:02d}.png"), picture)
        rows.append(f"{i:02d}.png,{x},{y},{side},{side}")
    (folder / "boxes.csv").write_text("\n".join(["file,x,y,w,h", *rows]) + "\n")
    return folder
