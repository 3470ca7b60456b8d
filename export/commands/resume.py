"""`--resume`: continues a training run with its original options, which the checkpoint contains."""

from __future__ import annotations

import os
import re
import shlex
from enum import Enum
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand

from ...runtime.commands.console import require_train_extra
from ...runtime.errors import InputError
from ..training.config import LAST

NOT_SAVED = {"out", "resume", "summary", "as_json", "config", "save_config"}
PATHS = {"data", "negatives", "init_from", "teacher", "unlabelled"}


class ResumableCommand(TyperCommand):
    """Training command that takes its default options from the run named by ``--resume``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the command line, with defaults from the run to resume."""
        args = list(args)
        run = run_to_resume(args, default=str(latest_run(ctx.info_name)))
        if run is not None:
            ctx.default_map = saved_options(Path(run), ctx.info_name)
        return super().parse_args(ctx, args)


def default_folder(command: str) -> Path:
    """Return the folder of a training command's first run."""
    return Path("runs") / command


def latest_run(command: str) -> Path:
    """Return the most recent of a training command's default folders, which may end in a number."""
    first = default_folder(command)
    saved = [p for p in first.parent.glob(f"{command}*/{LAST}") if re.fullmatch(rf"{command}(-\d+)?", p.parent.name)]
    return max(saved, key=lambda path: path.stat().st_mtime_ns).parent if saved else first


def run_to_resume(args: list[str], *, default: str) -> str | None:
    """Return the folder named by ``--resume`` in a command line, or None without this option.

    Args:
        args: The command line. If ``--resume`` names no folder, that of ``--out`` is inserted.
        default: Folder to insert if there is no ``--out`` either.
    """

    def value_of(option: str) -> str | None:
        for i, word in enumerate(args):
            if word.startswith(f"{option}="):
                return word.partition("=")[2]
            if word == option and i + 1 < len(args) and not args[i + 1].startswith("--"):
                return args[i + 1]
        return None

    run = value_of("--resume")
    if run is None and "--resume" in args:
        run = value_of("--out") or default
        args.insert(args.index("--resume") + 1, run)
    return run


def saved_options(run: Path, command: str) -> dict[str, Any]:
    """Read the options that a run was started with.

    Args:
        run: Folder of the run.
        command: Name of the training command.

    Raises:
        InputError: There is no run to resume, or it was started by another command.
    """
    with require_train_extra():
        from ..networks.checkpoint import load_checkpoint
        from ..training.run_state import check_run
    check_run(run, resume=True)
    checkpoint = load_checkpoint(run / LAST)
    task = checkpoint.spec.task.value
    if task != command:
        advice = f"mien train {task} --resume {shlex.quote(str(run))}"
        raise InputError(f"{run} is a run of mien train {task}, not {command}; run: {advice}")
    return dict(checkpoint.training.get("options", {}))


def options_to_save(ctx: typer.Context) -> dict[str, Any]:
    """Return a command's options as plain values with absolute paths, for `saved_options` to read."""

    def plain(name: str, value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            return [plain(name, item) for item in value]
        is_path = name in PATHS or (name == "weights" and os.path.isfile(value))  # noqa: PTH113
        if is_path:
            return os.path.abspath(value)  # noqa: PTH100
        return value.value if isinstance(value, Enum) else value

    given = {name: value for name, value in ctx.params.items() if name not in NOT_SAVED and value is not None}
    return {name: plain(name, value) for name, value in given.items()}
