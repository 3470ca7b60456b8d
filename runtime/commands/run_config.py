"""`--save-config` and `--config`: saves the options of a run to a JSON file, and repeats the run.

JSON, because the standard library of Python 3.10 cannot read TOML, and that of no version can write it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any

import typer

from ..atomic_file import write_report
from ..credentials import mask_text
from ..errors import InputError
from ..file_kinds import check_file
from ..near_names import nearest
from ..output_paths import check_outputs, same_file
from .option_groups import with_options

NEVER_SAVED = {"help", "config", "save-config", "resume", "token"}
"""Options that do not belong to a run, and the secret one."""


def keys_of(command: Any) -> dict[str, str]:
    """Return the key of each option and argument in a file, by parameter name: ``json`` for json_out."""
    names = {
        p.name: next((opt[2:] for opt in p.opts if opt.startswith("--")), p.name)
        for p in command.params
        if p.param_type_name in ("option", "argument")
    }
    return {name: key for name, key in names.items() if key not in NEVER_SAVED}


def config_of(ctx: Any) -> dict[str, Any]:
    """Return the values of a command's options and arguments as JSON types, except those without a value."""
    saved: dict[str, Any] = {}
    for name, key in keys_of(ctx.command).items():
        if (value := plain(ctx.params.get(name))) not in (None, []):
            saved.setdefault(key, value)  # an argument precedes the option that is another spelling of it
    return saved


def plain(value: Any) -> Any:
    """Return the value of an option as a JSON type, without the password of a URL."""
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, Enum):
        return value.value
    return mask_text(str(value)) if isinstance(value, (str, Path)) else value


def named_in(values: Iterable[Any]) -> Iterator[str]:
    """Yield all that may be the name of a file in the values of options."""
    for value in values:
        if isinstance(value, (list, tuple)):
            yield from named_in(value)
        elif isinstance(value, (str, Path)) and str(value):
            yield str(value)


def use_config(ctx: typer.Context, path: Path | None) -> None:
    """Make the options in the file of ``--config`` the defaults of this run.

    Raises:
        InputError: The file cannot be read, is not a JSON object, or contains an unknown option.
    """
    if path is None:
        return
    names = {key: name for name, key in keys_of(ctx.command).items()}
    options = read_config(path)
    for key in options:
        if key not in names:
            near = nearest(key, names)
            hint = f"did you mean {near}?" if near else f"see {ctx.command_path} --help"
            raise InputError(f"{path}: {ctx.command_path} has no option {key!r}; {hint}")
    ctx.default_map = {**(ctx.default_map or {}), **{names[key]: value for key, value in options.items()}}


def save_later(ctx: typer.Context, path: str | None) -> Callable[[], None] | None:
    """Return a function that writes the file of ``--save-config`` later, when all options have been read."""
    return None if path is None else partial(save_config, ctx, Path(path))


def save_config(ctx: typer.Context, path: Path) -> None:
    """Write the options of a run.

    Raises:
        InputError: Another option names the file.
        OutputError: The place cannot be written.
    """
    named = [Path(value) for value in named_in(ctx.params.values())]
    check_outputs({"--save-config": path}, [other for other in named if os.path.exists(other)])  # noqa: PTH110
    if any(same_file(path, other) for other in named):
        raise InputError(f"--save-config {path} is the file of another option too; choose another name")
    write_report(path, json.dumps(config_of(ctx), indent=2) + "\n")


def config_options(
    config: Path | None = typer.Option(
        None,
        "--config",
        metavar="FILE",
        help="Read options from this file (JSON); those on the command line override it.",
        is_eager=True,
        callback=use_config,
    ),
    save_config: str
    | None = typer.Option(  # not a Path, which older versions of Typer make of what `save_later` returns
        None, "--save-config", metavar="FILE", help="Write the options of this run for --config.", callback=save_later
    ),
) -> None:
    """Save the options of a run before it starts, if requested."""
    if save_config is not None:
        save_config()  # type: ignore[operator]  # what `save_later` made of the path


with_config = with_options(config_options, None, panel="Saved options")
"""Decorate a command so that its options can be saved to a file, and read from one."""


def read_config(path: Path) -> dict[str, Any]:
    """Read a JSON file of options.

    Raises:
        InputError: The file cannot be read, or is not a JSON object.
    """
    check_file(path)
    try:
        options = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise InputError(f"{path} is not JSON ({error}); --save-config writes such a file") from error
    if not isinstance(options, dict):
        raise InputError(f'{path} is not a JSON object such as {{"max-side": 640}}; --save-config writes one')
    return options
