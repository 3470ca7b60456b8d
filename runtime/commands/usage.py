"""Explains invalid command lines in one line, and suggests the option or command that was probably meant."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import typer

from ..near_names import nearest

UsageError: type[Exception] = typer.BadParameter.__mro__[1]
"""Click's, or that of the copy of Click inside newer versions of Typer."""

SYNONYMS = {
    "lr": ("learning-rate",),
    "bs": ("batch-size", "batch"),
    "batch": ("batch-size",),
    "batch-size": ("batch",),
    "conf": ("min-score",),
    "confidence": ("min-score",),
    "threshold": ("min-score",),
    "imgsz": ("input-size", "max-side"),
    "input": ("inputs", "source", "models", "data"),
    "i": ("inputs", "source", "models", "data"),
    "source": ("source", "inputs", "models"),
    "camera": ("source",),
    "model": ("models", "source", "init-from"),
    "out": ("output", "draw", "json"),
    "output": ("out", "json"),
    "o": ("output", "out", "json"),
    "device": ("provider",),
    "provider": ("device",),
    "gpu": ("provider cuda", "device cuda"),
    "cuda": ("provider cuda", "device cuda"),
    "cpu": ("provider cpu", "device cpu"),
    "fp16": ("precision fp16", "bfloat16"),
    "half": ("precision fp16", "bfloat16"),
    "int8": ("precision int8",),
    "amp": ("bfloat16",),
    "headless": ("no-show",),
}
"""Names of options in other programs, without dashes, and the corresponding options or arguments."""

VALUES = {
    "gpu": ("cuda",),
    "nvidia": ("cuda",),
    "trt": ("tensorrt",),
    "onnx": ("cpu",),
    "half": ("fp16",),
    "float16": ("fp16",),
    "float32": ("fp32",),
    "quantized": ("int8",),
    "image": ("frame",),
}
"""Values of options in other programs, and the corresponding values."""

SEVERAL = {"webcam": "for several files: mien predict FILE… --draw FOLDER"}
"""What to type instead of more arguments than a command takes."""


PLAINER = {
    "Option ": "option ",
    "requires an argument": "needs a value",
    "Got unexpected": "unexpected",
    "(s) (": " (",
    "Invalid": "invalid",
    "Value error, ": "",
    "Input should": "should",
}
"""Wording of Click and of newer versions of Typer, and the same in one style."""


def explain(error: Any) -> str:
    """Describe a `UsageError` in one line, with the fix after the last semicolon."""
    ctx, problem = error.ctx, plain(error.format_message().rstrip("."))
    if ctx is None:
        return problem
    fix = SEVERAL.get(str(ctx.info_name))
    if problem.startswith("No such option"):
        problem, fix = f"no option {error.option_name}", suggest_option(error.option_name, ctx.command)
    elif unknown := re.match(r"No such command '(.*?)'", problem):
        known = nearest(unknown[1], getattr(ctx.command, "commands", {}))
        problem, fix = f"no command {unknown[1]!r}", known and f"did you mean {ctx.command_path} {known}?"
    elif type(error).__name__ == "MissingParameter":
        problem, fix = f"{name_of(error.param)} is missing", None
    elif not problem.startswith("unexpected extra argument"):
        fix = None
    if choice := re.search(r"'([^']*)' is not one of (.*)", problem):
        fix = suggest_value(choice[1], re.findall(r"'([^']*)'", choice[2]))
    return f"{ctx.command_path}: {problem}; {fix or f'see {ctx.command_path} --help'}"


def plain(text: str) -> str:
    """Reword a message of Click or Typer."""
    for words, plainer in PLAINER.items():
        text = text.replace(words, plainer)
    return text


def suggest_value(word: str, known: Sequence[str]) -> str | None:
    """Suggest a value for an option that was given an invalid one."""
    named = (value for value in VALUES.get(word.lower(), ()) if value in known)
    meant = next(named, None) or nearest(word.lower(), known)
    return meant and f"did you mean {meant}?"


def name_of(parameter: Any) -> str:
    """Return the name of an option as typed, or that of an argument in capital letters."""
    if parameter.param_type_name == "option":
        return str(parameter.opts[0])
    return str(parameter.metavar or parameter.name).strip("[]{}.").upper()


def suggest_option(wanted: str, command: Any) -> str | None:
    """Suggest the option or argument of a command that was probably meant by an unknown option."""
    word = wanted.lstrip("-").lower().replace("_", "-")
    own = [p for p in command.params if p.param_type_name == "option"]
    options = [name[2:] for p in own for name in (*p.opts, *p.secondary_opts) if name.startswith("--")]
    arguments = {p.name: name_of(p) for p in command.params if p.param_type_name == "argument"}
    for target in SYNONYMS.get(word, ()):
        if target.split()[0] in options:
            return f"did you mean --{target}?"
        if target in arguments:
            return f"give {arguments[target]} without {wanted}"
    near = nearest(word, options)
    return None if near is None else f"did you mean --{near}?"
