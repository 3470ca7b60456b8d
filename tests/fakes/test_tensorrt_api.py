"""The stand-in offers nothing that the real modules lack: what runs on it names no attribute that is not there."""

from __future__ import annotations

import ast
import enum
import inspect
import json
from pathlib import Path

import pytest

from mien.tests.fakes import fake_accelerator, fake_cuda, fake_engine, fake_tensorrt

REAL = json.loads(Path(__file__).with_name("tensorrt_api.json").read_text())
CUDA = ("Device", "LegacyPinnedMemoryResource", "Buffer", "Stream", "GraphBuilder", "Graph")


def names_of(thing: type) -> set[str]:
    """Public names of a class of the stand-in: methods, properties, what its methods assign; of enums the members."""
    if issubclass(thing, enum.Enum):
        return set(thing.__members__)
    stores = (
        node.attr
        for node in ast.walk(ast.parse(inspect.getsource(thing)))
        if isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Store)
        and getattr(node.value, "id", "") == "self"
    )
    return {name for name in (*vars(thing), *stores) if not name.startswith("_")}


def fakes() -> dict[str, type]:
    rooms = (fake_cuda, fake_engine, fake_tensorrt)
    found = {n: t for room in rooms for n, t in vars(room).items() if inspect.isclass(t)}
    own = {n: t for n, t in found.items() if t.__module__ in {room.__name__ for room in rooms}}
    return {n: t for n, t in own.items() if n not in ("CUDAError", "Machine")}  # the one has a place of its own


@pytest.mark.parametrize("version", sorted(REAL))
def test_stand_in_has_only_what_the_real_module_has(version: str) -> None:
    wanted = {n: t for n, t in fakes().items() if (n in CUDA) == version.startswith("cuda")}
    assert len(wanted) > 5
    missing = [
        f"{name}.{attribute}"
        for name, thing in wanted.items()
        for attribute in sorted(names_of(thing))
        if attribute not in REAL[version].get(name, ())
    ]
    assert not missing


@pytest.mark.parametrize("version", [v for v in sorted(REAL) if v.startswith("tensorrt")])
def test_module_of_the_stand_in_has_only_what_the_real_one_has(version: str) -> None:
    module = fake_accelerator.fake_accelerator().tensorrt
    assert {name for name in vars(module) if name != "__version__"} <= set(REAL[version][""])
    severities = {name for name in vars(fake_tensorrt.ILogger.Severity) if name.isupper()}
    assert severities <= set(REAL[version]["ILogger.Severity"])


def test_the_four_versions_are_there() -> None:
    assert [v.split()[1].split(".")[:2] for v in sorted(REAL) if v.startswith("tensorrt")] == [
        ["10", "13"],
        ["10", "16"],
        ["10", "3"],
        ["11", "4"],
    ]
    assert "FP16" not in REAL["tensorrt 11.4.0.106"][""], "a name that TensorRT 11 dropped would be found missing"
