"""Model cards and licences of a bundle, taken from docs/models.md for the shipped models."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from ...runtime.models.bundle import BundledModel
from ...runtime.models.model_file import model_spec
from ...runtime.models.shipped import shipped_model
from ...runtime.models.spec import ModelSpec

CARDS = Path(__file__).parents[2] / "docs" / "models.md"


def model_card(name: str, spec: ModelSpec) -> str:
    """Return the model card.

    Args:
        name: ``landmarks``, ``detector`` or ``age_gender``.
        spec: Spec of the model.

    Returns:
        Markdown: from docs/models.md for a shipped model, from the spec for any other.
    """
    if _is_shipped(name, spec):
        text = CARDS.read_text(encoding="utf-8")
        return f"{section(text, name)}\n{section(text, 'Limits')}"
    trained = "\n".join(f"| {key} | {value} |" for key, value in sorted(spec.provenance.items()))
    return (
        f"## {name}\n\n| | |\n|---|---|\n| task | {spec.task.value} |\n"
        f"| input | uint8 BGR, {spec.input_size[0]} × {spec.input_size[1]} |\n"
        f"| outputs | {', '.join(spec.outputs)} |\n"
        f"| classes | {', '.join(spec.classes) or '–'} |\n"
        f"| sha256 of the weights | {spec.weights_sha256 or 'unknown'} |\n{trained}\n"
    )


def section(text: str, heading: str) -> str:
    """Return a section of a Markdown text with its heading; empty if there is no such section."""
    found = re.search(rf"^## {re.escape(heading)}$.*?(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    return "" if found is None else found.group(0).rstrip() + "\n"


def licences(models: Sequence[BundledModel]) -> str:
    """Return, as Markdown, the terms of the data that the weights were trained on."""
    text = "# Licences\n\nmien, whose code made the graphs of these models, is under the MIT licence.\n\n"
    specs = {m.name: m.spec for m in models}
    if shipped := [name for name in sorted(specs) if _is_shipped(name, specs[name])]:
        terms = section(CARDS.read_text(encoding="utf-8"), "Terms of the data")
        text += f"Weights of {', '.join(shipped)}: research use only.\n\n{terms}\n"
    if others := sorted(specs.keys() - shipped):
        text += (
            f"Weights of {', '.join(others)}: not part of mien. They inherit the terms of the data they were trained "
            "on; ask whoever trained them.\n"
        )
    return text


def _is_shipped(name: str, spec: ModelSpec) -> bool:
    return bool(spec.weights_sha256) and spec.weights_sha256 == model_spec(shipped_model(name)).weights_sha256
