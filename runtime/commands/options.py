"""Options that several commands share, and parsers of option values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import TypeVar

import typer

from ..errors import InputError
from ..faces.detector import DEFAULT_MAX_SIDE
from ..faces.face_filter import FaceFilter, Region
from ..models.model_file import ModelFile
from ..models.runner import DEFAULT_THREADS, Provider
from ..models.spec import MODEL_FOR, Precision, Task
from ..output.overlay import OverlayStyle
from ..pipeline.pipeline_options import Classified, PipelineOptions
from .input_paths import existing_folder
from .usage import suggest_value

DATA = typer.Option(..., "--data", callback=existing_folder, help="Folder with images and labels.", show_default=False)
DETECTOR = typer.Option(None, "--detector", help="Face detector: a mien or YuNet model; default: the shipped one.")
PROVIDERS = f"{', '.join(provider.value for provider in list(Provider)[:-1])} or {list(Provider)[-1].value}"
PROVIDER = typer.Option(
    Provider.AUTO, "--provider", metavar="PROVIDER", help=f"Runs the models: {PROVIDERS}; auto: the fastest that works."
)
MAX_THREADS = 1024
"""Starting a hundred times as many would block a machine for minutes, deaf to Ctrl-C."""
THREADS = typer.Option(DEFAULT_THREADS, "--threads", min=0, max=MAX_THREADS, help="Threads per operator; 0: all cores.")
MAX_SIDE = typer.Option(
    DEFAULT_MAX_SIDE, "--max-side", min=64, help="Downscale the detector's input to this longer side, px."
)
BLUR = typer.Option(False, "--blur", help="Hide all faces in everything that is drawn, shown or served.")
FACES = "Which faces are reported"
AS_JSON = typer.Option(False, "--json", help="Print JSON.")
HELD_OUT = typer.Option(False, "--held-out", help="Use only what mien train holds out, its validation and test splits.")


def pipeline_options(
    model: Path | None = typer.Option(
        None,
        "--model",
        help="Your own model (.onnx), to replace the shipped one for its task; a classifier labels frames or faces.",
    ),
    on: Classified | None = typer.Option(
        None, "--on", help="With a classifier: label whole frames, or each face.", show_default="frame"
    ),
    detector: Path | None = DETECTOR,
    age_gender: Path | None = typer.Option(
        None, "--age-gender", help="Age and gender model; default: the shipped one."
    ),
    bundle: Path | None = typer.Option(None, "--bundle", help="Load all models from a file made by mien bundle."),
    precision: Precision | None = typer.Option(
        None,
        "--precision",
        help="Precision of the shipped models (int8 or fp32) or of the bundle's.",
        show_default="int8 on a CPU with VNNI, else fp32; a bundle: fp32",
    ),
    attributes: bool = typer.Option(True, "--attributes/--no-attributes", help="Estimate age and gender."),
    provider: Provider = PROVIDER,
    min_score: float | None = typer.Option(
        None,
        "--min-score",
        rich_help_panel=FACES,
        help="Report only faces with at least this detection score, up to 1; default: the detector's.",
    ),
    max_faces: int | None = typer.Option(
        None, "--max-faces", min=1, rich_help_panel=FACES, help="Report only the N largest faces."
    ),
    min_face: float | None = typer.Option(
        None,
        "--min-face",
        metavar="PX",
        rich_help_panel=FACES,
        help="Report only faces whose box has a longer side of at least PX.",
    ),
    region: str | None = typer.Option(
        None,
        "--region",
        metavar="L,T,R,B",
        rich_help_panel=FACES,
        help="Report only faces centred in this part of the picture: left, top, right and bottom as fractions; "
        "0.5,0,1,1 is the right half.",
    ),
) -> PipelineOptions:
    """Collect the options that select a pipeline's models and faces; see `with_options`."""
    reported = FaceFilter(min_score, max_faces, min_face, None if region is None else parse_region(region))
    options = PipelineOptions(
        detector=detector,
        age_gender=age_gender,
        bundle=bundle,
        precision=precision,
        attributes=attributes,
        provider=provider,
        reported=reported,
        classify=on or Classified.FRAME,
    )
    if model is not None:
        options = place_model(options, model)
    if on is not None and options.classifier is None:
        raise InputError("--on says what a classifier labels; add --model CLASSIFIER.onnx")
    return options


PLACES = {
    Task.LANDMARKS: "model",
    Task.DETECTOR: "detector",
    Task.AGE_GENDER: "age_gender",
    Task.CLASSIFY: "classifier",
}
"""Field of `PipelineOptions` for a model of each task."""


def place_model(options: PipelineOptions, model: Path) -> PipelineOptions:
    """Use a model for its task.

    Raises:
        InputError: Another model was given for the same task.
        ModelError: It is not a model of mien.
    """
    task = ModelFile.of(model).spec.task
    if getattr(options, PLACES[task]) is not None:
        option = f"--{PLACES[task].replace('_', '-')}"
        raise InputError(f"{model} is {MODEL_FOR[task]}, and so is the file of {option}; pass only one of them")
    return replace(options, **{PLACES[task]: model})  # type: ignore[arg-type]


def refuse_face_options(options: PipelineOptions, given: Mapping[str, object]) -> None:
    """Reject options about faces if a classifier labels whole frames.

    Args:
        options: Models and faces.
        given: Other options of the command that concern faces, by name.

    Raises:
        InputError: One of them is given.
    """
    models = {"--detector": options.detector, "--age-gender": options.age_gender, "--bundle": options.bundle}
    wrong = [name for name, value in {**models, **given}.items() if value not in (None, False)]
    if options.reported != FaceFilter():
        wrong.append("the choice of faces")
    if wrong:
        raise InputError(
            f"{options.classifier} labels whole frames, and {', '.join(wrong)} is about faces; "
            "add --on faces to label each face"
        )


def overlay_style(
    boxes: bool = typer.Option(True, "--boxes/--no-boxes", help="Draw the box of each face."),
    labels: bool = typer.Option(True, "--labels/--no-labels", help="Draw track, age, gender and classes."),
    axes: bool | None = typer.Option(
        None, "--axes/--no-axes", help="Draw the axes of the head; default: for faces of 80 px or more."
    ),
    line_width: int | None = typer.Option(
        None, "--line-width", min=1, max=1000, help="Width of drawn lines, px; default: follows the face."
    ),
) -> OverlayStyle:
    """Collect the options of the overlay; see `with_options`."""
    return OverlayStyle(boxes=boxes, labels=labels, axes=axes, line_width=line_width)


def parse_region(text: str) -> Region:
    """Parse ``LEFT,TOP,RIGHT,BOTTOM`` as fractions of the picture.

    Raises:
        InputError: The text is not four such numbers.
    """
    try:
        left, top, right, bottom = map(float, text.split(","))
    except ValueError:
        raise InputError(
            f"--region expects LEFT,TOP,RIGHT,BOTTOM as fractions, such as 0.5,0,1,1; found {text!r}"
        ) from None
    return left, top, right, bottom


def positive_ints(text: str, option: str) -> list[int]:
    """Parse a comma-separated list of positive integers.

    Args:
        text: Value of the option.
        option: Name of the option, for the message.

    Raises:
        InputError: The text is not such a list.
    """
    try:
        values = [int(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"{option} expects integers such as 1,8; found {text!r}") from None
    if min(values) < 1:
        raise InputError(f"{option} expects integers of at least 1; found {text!r}")
    return values


Kind = TypeVar("Kind", bound=Enum)


def enum_members(text: str, kind: type[Kind], option: str) -> list[Kind]:
    """Parse a comma-separated list of enum values, dropping duplicates.

    Args:
        text: Value of the option.
        kind: Enum of the possible values.
        option: Name of the option, for the message.

    Raises:
        InputError: The enum has no such value.
    """
    known = [member.value for member in kind]
    parts = [part.strip() for part in text.split(",")]
    if wrong := [part for part in parts if part not in known]:
        meant = suggest_value(wrong[0], known)
        hint = f"; {meant}" if meant else ""
        raise InputError(f"{option} expects one or more of {', '.join(known)}; found {text!r}{hint}")
    return [kind(part) for part in dict.fromkeys(parts)]


def parse_size(text: str, option: str) -> tuple[int, int]:
    """Parse ``WIDTHxHEIGHT`` in px.

    Args:
        text: Value of the option.
        option: Name of the option, for the message.

    Raises:
        InputError: The text is not two positive integers.
    """
    width, _, height = text.partition("x")
    if not (width.isdecimal() and height.isdecimal()) or not int(width) or not int(height):
        raise InputError(f"{option} expects WIDTHxHEIGHT, such as 640x480; found {text!r}")
    return int(width), int(height)
