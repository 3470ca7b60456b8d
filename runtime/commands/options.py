"""Options that several commands share."""

from __future__ import annotations

from enum import Enum
from typing import TypeVar

import typer

from mien.runtime.errors import InputError
from mien.runtime.faces.detector import DEFAULT_MAX_SIDE
from mien.runtime.models.runner import DEFAULT_THREADS, Provider
from mien.runtime.models.spec import Precision

DATA = typer.Option(..., "--data", help="Folder with images and labels.", show_default=False)
MODEL = typer.Option(None, "--model", help="Model file (.onnx); default: the shipped one.")
DETECTOR = typer.Option(None, "--detector", help="Detector of mien or a YuNet file; default: the shipped one.")
AGE_GENDER = typer.Option(None, "--age-gender", help="Age and gender model; default: the shipped one.")
BUNDLE = typer.Option(None, "--bundle", help="Take all models from a file of mien bundle.")
PRECISION = typer.Option(Precision.FP32, "--precision", help="Which models of the bundle.")
ATTRIBUTES = typer.Option(True, "--attributes/--no-attributes", help="Tell age and gender.")
PROVIDER = typer.Option(Provider.AUTO, "--provider", help="What runs the models; auto takes the fastest that works.")
THREADS = typer.Option(DEFAULT_THREADS, "--threads", min=0, help="Threads of one operator; 0: all cores.")
MAX_SIDE = typer.Option(
    DEFAULT_MAX_SIDE, "--max-side", min=64, help="Detect on pictures reduced to this longer side, px."
)
AS_JSON = typer.Option(False, "--json", help="Print JSON.")
HELD_OUT = typer.Option(False, "--held-out", help="Only what mien train holds out of this folder for validation.")


def numbers(text: str, option: str) -> list[int]:
    """Parse a comma-separated list of positive whole numbers."""
    try:
        values = [int(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"{option} wants whole numbers such as 1,8; found {text!r}") from None
    if min(values) < 1:
        raise InputError(f"{option} wants numbers from 1 on; found {text!r}")
    return values


Kind = TypeVar("Kind", bound=Enum)


def several(text: str, kind: type[Kind], option: str) -> list[Kind]:
    """Parse a comma-separated list of an enumeration's values, each once."""
    try:
        return list(dict.fromkeys(kind(part.strip()) for part in text.split(",")))
    except ValueError:
        raise InputError(f"{option} wants some of {', '.join(k.value for k in kind)}; found {text!r}") from None
