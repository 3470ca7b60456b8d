"""Registers the commands, and turns errors into a one-line message and an exit code.

Results go to standard output, everything else to standard error. Exit codes: 0 success, 1 a check failed, 2 error,
128 + n ended by signal n (130: Ctrl-C). Heavy modules are imported when a command runs, so that ``--help`` is fast.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mien.runtime.interrupts import exit_code, interrupted, interruptible, leave_at_once

if __name__ == "__main__" or Path(sys.argv[0]).stem == "mien":  # not where it is imported
    leave_at_once()  # the libraries are slow to import, and some mistake an interrupt for a failed import
import typer
from rich.logging import RichHandler
from typer.core import TyperGroup

from mien import __version__
from mien.runtime.commands.console import say, stderr
from mien.runtime.commands.doctor import doctor
from mien.runtime.commands.usage import UsageError, explain
from mien.runtime.credentials import mask_text
from mien.runtime.errors import CheckFailed, MienError, one_line
from mien.runtime.streams import flush_in_time, output_failure, steady_streams

try:
    import numpy  # noqa: F401  first: without it, OpenCV prints advice to standard output

    from mien.bench.commands.bench import bench_app
    from mien.bench.commands.evaluate import evaluate_app
    from mien.bench.commands.verify import verify
    from mien.export.bridge import TorchBridge
    from mien.export.commands.bundle import bundle
    from mien.export.commands.export import export
    from mien.export.commands.train import train_app
    from mien.runtime.commands.engine import engine
    from mien.runtime.commands.info import info
    from mien.runtime.commands.predict import predict
    from mien.runtime.commands.webcam import webcam
except ImportError as error:
    # A library is missing or broken, which is when the doctor is needed most; it works without any of them.
    if (error.name or "").split(".")[0] not in ("", "cv2", "numpy", "onnxruntime"):
        raise
    steady_streams()
    if sys.argv[1:2] != ["doctor"]:
        say(f"error: a library is missing ({error}); mien doctor tells you what to install", style="red")
        raise SystemExit(2) from None
    alone = typer.Typer(add_completion=False)
    alone.command()(doctor)
    alone(sys.argv[2:], prog_name="mien doctor")
    raise SystemExit from None

LAST_FLUSH_S = 1.0
"""Time that the reader of standard output has to take the rest once a signal is to end the command."""


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn errors and Ctrl-C into a one-line message and an exit code."""
    try:
        yield
    except UsageError as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            raise
        say(f"error: {explain(error)}", style="red")
        raise typer.Exit(2) from error
    except MienError as error:
        say(f"error: {error}", style="red")
        raise typer.Exit(1 if isinstance(error, CheckFailed) else 2) from error
    except OSError as error:  # of a file whose own errors no one expected, such as a name that is too long
        name = "" if error.filename is None else f"{error.filename}: "
        say(f"error: {name}{error.strerror or error}", style="red")
        raise typer.Exit(2) from error
    except MemoryError as error:
        say(f"error: out of memory {error}".rstrip(), style="red")
        raise typer.Exit(2) from error
    except KeyboardInterrupt:
        say("interrupted")
        raise typer.Exit(exit_code()) from None


class OneLineErrors(TyperGroup):
    """Command group whose commands report errors through `one_line_errors`."""

    def parse_args(self, ctx: Any, args: list[str]) -> Any:
        """Parse the options before the command."""
        with one_line_errors():
            return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run the selected command."""
        with one_line_errors(), interruptible():
            return super().invoke(ctx)


app = typer.Typer(
    name="mien",
    cls=OneLineErrors,
    pretty_exceptions_show_locals=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["--help", "-h"]},
    rich_markup_mode="rich",
    help="Face landmarks at the edge: train in PyTorch, export to ONNX, run and benchmark on ONNX Runtime or TensorRT.",
    epilog="Start with: [bold]mien webcam demo[/bold]",
)
app.add_typer(train_app, name="train")
app.add_typer(bench_app, name="bench")
app.add_typer(evaluate_app, name="evaluate")


def mask_record(record: logging.LogRecord) -> bool:
    """Make a log record's message one line without secrets."""
    record.msg, record.args = one_line(mask_text(record.getMessage())), ()
    return True


def print_version(wanted: bool) -> None:
    """Print the version and exit, if `--version` was given."""
    if wanted:
        print(f"mien {__version__}")
        raise typer.Exit


@app.callback()
def options(
    ctx: typer.Context,
    version: bool = typer.Option(
        False, "--version", help="Print the version and exit.", callback=print_version, is_eager=True
    ),
    verbose: bool = typer.Option(False, "--verbose", "-v", help="Log more details."),
) -> None:
    """Set up logging, and silence OpenCV unless --verbose is given."""
    import cv2

    ctx.obj = TorchBridge()
    os.environ.setdefault("AV_LOG_FORCE_NOCOLOR", "1")  # FFmpeg's lines go into the log
    if not verbose:
        os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
        logs: Any = getattr(cv2.utils, "logging", cv2)  # the module is missing in OpenCV 4.8
        logs.setLogLevel(0)
    handler = RichHandler(console=stderr, show_path=False, show_time=False, markup=False)
    handler.addFilter(mask_record)
    logger = logging.getLogger("mien")
    logger.handlers = [handler]
    logger.setLevel(logging.INFO if verbose else logging.WARNING)


COMMANDS: dict[Callable[..., None], list[str]] = {
    webcam: [
        "mien webcam",
        "mien webcam clip.mp4 --output faces.mp4 --no-show",
        "mien webcam clip.mp4 --blur --output blurred.mp4 --no-show",
        "mien webcam --model pets.onnx --serve 127.0.0.1:8080",
    ],
    predict: [
        "mien predict photo.jpg",
        "mien predict photos/ --json rows.jsonl --draw drawn/",
        "mien predict s3://bucket/photos --ray auto --json s3://bucket/rows",
    ],
    export: [
        "mien export runs/landmarks/best.pt -o landmarks.onnx --data landmarks68",
        "mien export other.onnx -o other16.onnx --precision fp16",
    ],
    engine: ["mien engine landmarks.onnx --batch 1,4,16"],
    info: ["mien info landmarks.onnx"],
    doctor: ["mien doctor", "mien doctor --json"],
    bundle: ["mien bundle -o face.mien"],
    verify: ["mien verify face.mien"],
}
"""Commands without subcommands, with the examples to show below their help."""
for command, examples in COMMANDS.items():
    app.command(epilog="\n\n".join(examples))(command)


def main() -> None:
    """Run the command line as the whole process."""
    steady_streams()
    code: Any = 0
    try:
        app(prog_name="mien")
    except SystemExit as end:
        code = end.code
    stuck = interrupted() and not flush_in_time(LAST_FLUSH_S)
    failure = None if stuck else output_failure()
    if failure is not None and not isinstance(failure, BrokenPipeError) and not code:  # a reader may exit early
        say(f"error: cannot write to standard output ({failure.strerror})", style="red")
        code = 2
    if isinstance(code, int) and (stuck or code > 128):
        # Python would flush again; it would end by SIGINT, whatever the signal was, if it struck in code that a C
        # library had it run.
        atexit._run_exitfuncs()
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    main()
