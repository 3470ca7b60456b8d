"""Standard streams that tolerate closed descriptors, readers that exit, full disks and limited encodings."""

from __future__ import annotations

import codecs
import io
import os
import sys
import threading
from typing import Any

PLAIN = dict(
    zip("✓✗·→×≤≥±…–−µ°", ("+", "x", "-", "->", "x", "<=", ">=", "+/-", "...", "-", "-", "u", " deg"), strict=True)
)
"""Substitutes for characters that an encoding lacks; others are escaped, as in ``\\u2603``."""
ERRORS = "mien-plain"


class LastingFile(io.FileIO):
    """File that drops data it cannot write, and remembers why.

    Attributes:
        failure: Error of the first write that failed.
    """

    failure: OSError | None = None

    def write(self, data: Any) -> int:
        """Write the data, or drop them after a failure."""
        if self.failure is None:
            try:
                return super().write(data)
            except OSError as error:
                self.failure = error
        return len(data)


_output: LastingFile | None = None


def steady_streams() -> None:
    """Replace standard output and error by streams whose failures stop no command; call it before opening files.

    `output_failure` reports what could not be written. Closed descriptors are connected to the null device; otherwise
    the next opened file would get their number and receive whatever libraries print.
    """
    global _output
    codecs.register_error(ERRORS, _plain)
    _connect_closed()
    for name, number in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        if sys.platform == "win32" and stream is not None:  # a console is not a file there
            stream.reconfigure(errors=ERRORS)
            continue
        file = LastingFile(number, "wb", closefd=False) if stream is not None else LastingFile(os.devnull, "wb")
        encoding = "utf-8" if stream is None else stream.encoding
        buffered = name == "stderr" or file.isatty()
        setattr(sys, name, io.TextIOWrapper(io.BufferedWriter(file), encoding, ERRORS, line_buffering=buffered))
        _output = file if name == "stdout" else _output


def output_failure() -> OSError | None:
    """Flush standard output, and return the error of the first write that failed, if any."""
    sys.stdout.flush()
    return None if _output is None else _output.failure


def flush_in_time(timeout_s: float) -> bool:
    """Flush standard output; return False if it takes longer, because its reader has stopped reading."""
    flush = threading.Thread(target=output_failure, daemon=True)
    flush.start()
    flush.join(timeout_s)
    return not flush.is_alive()


def write_output(text: str) -> None:
    """Write to standard output and flush it.

    Raises:
        OSError: It cannot be written; BrokenPipeError if the reader has exited.
    """
    sys.stdout.write(text)
    if (failure := output_failure()) is not None:
        raise failure


def _connect_closed() -> None:
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(number, True)
    os.close(number)


def _plain(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    character = error.object[error.start]
    return PLAIN.get(character, character.encode("ascii", "backslashreplace").decode()), error.start + 1
