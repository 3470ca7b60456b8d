"""What is said where TensorRT, CUDA or the GPU is missing."""

from __future__ import annotations

import ctypes
from pathlib import Path
from types import SimpleNamespace

import pytest

from mien.runtime.backends.ort.cuda_libraries import why_not
from mien.runtime.backends.trt.device import Gpu, find_accelerator, find_tensorrt
from mien.runtime.errors import ProviderError
from mien.tests.fakes.fake_accelerator import fake_accelerator
from mien.tests.fakes.fake_cuda import CUDAError, Device, LegacyPinnedMemoryResource


class Missing(RuntimeError):
    """What cuda.core raises without a driver."""


def loader(*, tensorrt="10.3.0", devices=(0, 1), driver=12060, core="cuda.core", fails=None):
    """An importer of a machine with these modules."""
    real = fake_accelerator()

    def make_device(_: int) -> Device:
        if fails is not None:
            raise fails
        return real.device

    modules = {
        "tensorrt": SimpleNamespace(__version__=tensorrt),
        "cuda.bindings.runtime": SimpleNamespace(
            cudaGetDeviceCount=lambda: devices, cudaDriverGetVersion=lambda: (0, driver)
        ),
        core: SimpleNamespace(__name__=core, Device=make_device, LegacyPinnedMemoryResource=LegacyPinnedMemoryResource),
        f"{core}._utils.cuda_utils": SimpleNamespace(CUDAError=CUDAError),
    }

    def load(name: str):
        if name not in modules:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return modules[name]

    return load


def test_accelerator_tells_of_its_gpu_and_driver(tmp_path: Path) -> None:
    version = tmp_path / "proc/driver/nvidia/version"
    version.parent.mkdir(parents=True)
    version.write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.65.06  Sun Jul 27 07:01:20 UTC 2025\n")
    assert find_accelerator(load=loader(), root=tmp_path).gpu == Gpu("Orin", "8.7", "580.65.06, CUDA 12.6")
    assert find_accelerator(load=loader(driver=13020), root=tmp_path / "none").gpu.driver == "CUDA 13.2"


def test_accelerator_takes_the_older_name_of_cuda_core(tmp_path: Path) -> None:
    assert find_accelerator(load=loader(core="cuda.core.experimental"), root=tmp_path).gpu.name == "Orin"


@pytest.mark.parametrize("version", ["8.6.1", "10.2.0", "12.0.1"])
def test_other_tensorrt_versions_are_refused(version: str) -> None:
    with pytest.raises(ProviderError, match=rf"expected TensorRT 10\.3 to 11\.x, found {version}"):
        find_tensorrt(load=loader(tensorrt=version))


@pytest.mark.parametrize("version", ["10.3.0", "10.16.1.11", "11.4.0.106"])
def test_checked_tensorrt_versions_are_taken(version: str) -> None:
    assert find_tensorrt(load=loader(tensorrt=version)).__version__ == version


def test_missing_tensorrt_is_told() -> None:
    with pytest.raises(ProviderError, match="TensorRT is not installed"):
        find_tensorrt(load=lambda name: loader()("nothing"))


def test_bindings_without_libraries_are_told() -> None:
    def load(name: str):
        raise ImportError("libnvinfer.so.10: cannot open shared object file: No such file or directory")

    with pytest.raises(ProviderError, match=r"libraries are missing \(libnvinfer\.so\.10"):
        find_tensorrt(load=load)


def test_missing_cuda_core_is_told() -> None:
    def load(name: str):
        return loader()(name if name == "tensorrt" else "nothing")

    with pytest.raises(ProviderError, match=r"needs cuda-core and .* 'cuda-bindings==12\.\*'"):
        find_accelerator(load=load)


@pytest.mark.parametrize("devices", [(35, None), (100, 0), (0, 0)])
def test_missing_gpu_or_driver_is_told(devices: tuple[int, int | None]) -> None:
    with pytest.raises(ProviderError, match="TensorRT needs a GPU"):
        find_accelerator(load=loader(devices=devices))


@pytest.mark.parametrize("error", [Missing("cuda is a driver library"), CUDAError("CUDA_ERROR_NO_DEVICE")])
def test_gpu_that_does_not_answer_is_told(error: Exception) -> None:
    with pytest.raises(ProviderError, match="which does not respond"):
        find_accelerator(load=loader(fails=error))


# ONNX Runtime's CUDA provider


@pytest.mark.parametrize(
    ("library", "owner"),
    [
        ("libcuda.so.1", "the NVIDIA driver"),
        ("libcublasLt.so.13", "the CUDA libraries"),
        ("libcudnn.so.9", "cuDNN"),
        ("libnvinfer.so.10", "TensorRT"),
    ],
)
def test_missing_library_is_named_with_its_owner(tmp_path: Path, library: str, owner: str) -> None:
    (tmp_path / "libonnxruntime_providers_cuda.so").touch()

    def load(path: str, mode: int = ctypes.DEFAULT_MODE) -> None:
        if "cuda" in Path(path).name:
            raise OSError(f"{library}: cannot open shared object file: No such file or directory")

    said = why_not("CUDAExecutionProvider", folder=tmp_path, load=load)
    assert said.startswith(f"{library} is missing, part of {owner}")


def test_package_without_the_provider_is_told(tmp_path: Path) -> None:
    assert "has no libonnxruntime_providers_cuda.so" in why_not("CUDAExecutionProvider", folder=tmp_path)


def test_library_that_really_does_not_load(tmp_path: Path) -> None:
    (tmp_path / "libonnxruntime_providers_cuda.so").write_bytes(b"no library")
    assert "does not load" in why_not("CUDAExecutionProvider", folder=tmp_path)


def test_libraries_that_load_leave_the_gpu(tmp_path: Path) -> None:
    (tmp_path / "libonnxruntime_providers_cuda.so").touch()
    assert "no GPU answers" in why_not("CUDAExecutionProvider", folder=tmp_path, load=lambda *_: None)
