"""One exception tree; a message says what was wanted, what was found and what to do next.

MienError
├── InputError     an image, video, label file or option that cannot be used
├── ModelError     a model file, a checkpoint or a spec that cannot be used
├── ProviderError  a provider or a precision that was asked for and is not there
├── OutputError    a file that cannot be written
├── ProcessFailed    a process of a benchmark that crashed, hung or ran out of memory
└── CheckFailed    a parity gate or another check that did not hold (exit code 1, the others 2)
"""


class MienError(Exception):
    """Base of every error that is the user's to mend."""


class InputError(MienError):
    """An image, video, label file or option that cannot be used."""


class ModelError(MienError):
    """A model file, a checkpoint or a spec that cannot be used."""


class ProviderError(MienError):
    """An execution provider or a precision that was asked for and is not really there."""


class OutputError(MienError):
    """A file or folder that cannot be written."""


class ProcessFailed(MienError):
    """A process of a benchmark that crashed, hung, ran out of memory or refused what it was given."""


class CheckFailed(MienError):
    """A parity gate or another check that did not hold."""


def next_step(error: Exception) -> tuple[str, str]:
    """What an error tells, and what it says to do: its last part behind a semicolon; empty where there is none."""
    text = str(error)
    told, _, step = text.rpartition("; ")
    if not told or step.count("(") != step.count(")"):  # a semicolon of something that is quoted
        return text, ""
    return told, step
