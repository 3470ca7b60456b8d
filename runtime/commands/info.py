"""`mien info`: shows a model's metadata and where its nodes run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import typer

from ..backends.open_runner import open_model
from ..models.model_file import ModelFile
from ..models.runner import Provider
from .console import say
from .options import AS_JSON, PROVIDER


def info(
    model: Path = typer.Argument(..., metavar="MODEL", help="Model file (.onnx)."),
    provider: Provider = PROVIDER,
    as_json: bool = AS_JSON,
) -> None:
    """Show the metadata of a model file, and which provider runs each of its nodes on this machine."""
    file = ModelFile.of(model)
    with open_model(file, provider=provider, threads=1) as runner:
        row = json.loads(runner.spec.to_json()) | {
            "provider": runner.provider,
            "precision": runner.precision.value,
            "nodes": nodes_of(file, runner),
        }
    row["size_bytes"] = file.size_bytes
    if as_json:
        print(json.dumps(row))
        return
    for key, value in row.items():
        print(f"{key}: {json.dumps(value) if isinstance(value, (dict, list)) else value}")


def nodes_of(model: ModelFile, runner: Any) -> dict[str, int] | None:
    """Count the nodes per provider, and name those that fell back to the CPU on standard error."""
    from ..backends.ort.onnx_session import NAMES, placement
    from ..backends.trt.engine_runner import EngineRunner

    if isinstance(runner, EngineRunner):
        return {f"TensorRT, {kind.lower()}": count for kind, count in runner.layer_types.items()}
    wanted = Provider(runner.provider)
    placed = placement(model, provider=wanted)
    if placed is None:
        say("this version of onnxruntime cannot report which provider runs each node")
        return None
    for name in [n for ep, names in placed.items() if ep != NAMES[wanted] for n in names]:
        say(f"not on {wanted.value}: {name}", style="yellow")
    return {ep: len(names) for ep, names in placed.items()}
