"""A backbone that is exported in two seconds, where the real ones take torch.onnx.export ten, and no first tries."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
import torch

from mien.export.networks.backbones import ARCHITECTURES, Architecture
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
