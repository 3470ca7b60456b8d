"""Exceptions and warnings; their messages say what was expected, what was found and what to do next.

A command ends with exit code 1 after `CheckFailed`, and with 2 after all others.
"""

import functools
import logging
import re

from .credentials import mask_text


class MienError(Exception):
    """Base class of errors that the user can fix; passwords in the message are masked, however it quotes them."""

    def __init__(self, message: str = "") -> None:
        super().__init__(mask_text(message))


class InputError(MienError):
    """An image, video, label file or option that cannot be used."""


class ModelError(MienError):
    """A model file, a checkpoint or a spec that cannot be used."""


class ProviderError(MienError):
    """An execution provider or a precision that was requested and is not available."""


class OutputError(MienError):
    """A file or folder that cannot be written."""


class ProcessFailed(MienError):
    """A process that crashed, hung, ran out of memory or rejected its input."""


class CheckFailed(MienError):
    """A parity gate or another check that failed."""


def one_line(text: str) -> str:
    """Escape control characters, which file names may contain, as in ``a\\nb.jpg``."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f]", lambda found: repr(found[0])[1:-1], text)


@functools.cache
def warn_once(message: str) -> None:
    """Log a warning unless the same was logged before, since labels and folders may be read repeatedly."""
    logging.getLogger("mien").warning("%s", one_line(message))


def next_step(error: Exception) -> tuple[str, str]:
    """Split the message of an error into the problem and, after its last semicolon, the fix (may be empty)."""
    text = str(error)
    problem, _, step = text.rpartition("; ")
    if not problem or step.count("(") != step.count(")"):  # the semicolon is inside a quoted message
        return text, ""
    return problem, step
