"""The precision of the shipped models: int8 where a CPU with VNNI runs them."""

from __future__ import annotations

import pytest

from mien.runtime.backends import fastest_precision as module
from mien.runtime.backends.fastest_precision import fastest_precision, has_nvidia_driver
from mien.runtime.models.runner import Provider
from mien.runtime.models.spec import Precision


@pytest.mark.parametrize(
    ("provider", "vnni", "driver", "expected"),
    [
        (Provider.CPU, True, True, Precision.INT8),
        (Provider.CPU, False, False, Precision.FP32),
        (Provider.AUTO, True, False, Precision.INT8),
        (Provider.AUTO, True, True, Precision.FP32),
        (Provider.CUDA, True, True, Precision.FP32),
        (Provider.TENSORRT, True, True, Precision.FP32),
    ],
)
def test_int8_is_for_cpus_with_vnni(
    provider: Provider, vnni: bool, driver: bool, expected: Precision, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cv2.checkHardwareSupport", lambda feature: vnni and feature == 23)
    monkeypatch.setattr(module, "has_nvidia_driver", lambda: driver)
    assert fastest_precision(provider) is expected


def test_a_driver_is_there_if_its_library_loads() -> None:
    def missing(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    assert has_nvidia_driver(lambda name: name) and not has_nvidia_driver(missing)
