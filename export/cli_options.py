"""Options that several commands share."""

from __future__ import annotations

import typer

from ..runtime.detector import DEFAULT_MAX_SIDE
from ..runtime.runner import DEFAULT_THREADS, Precision, Provider

DATA = typer.Option(..., "--data", help="Folder with images and labels.", show_default=False)
MODEL = typer.Option(None, "--model", help="Model file (.onnx) or checkpoint (.pt); default: the shipped one.")
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
