"""Turns errors that PyTorch words for programmers into mien's."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from ...runtime.errors import MienError, ProcessFailed
from ...runtime.isolated import ran_out_of_memory


@contextlib.contextmanager
def explained_errors() -> Iterator[None]:
    """Explain in one line what ends a training.

    Raises:
        MienError: It was raised in a process that prepares batches; PyTorch puts that process's traceback before it.
        ProcessFailed: Such a process ended.
        MemoryError: A processor or a GPU has not enough memory.
    """
    try:
        yield
    except MienError as error:
        _, found, message = str(error).rpartition(f".{type(error).__name__}: ")
        if not found:
            raise
        raise type(error)(message.rstrip()) from error
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        if "DataLoader worker" in reason:
            raise ProcessFailed(
                f"a process that prepares batches ended ({reason.strip(' .')}); it may lack memory, or in a container "
                "shared memory (docker run --shm-size 2g): use --workers 0, or a smaller --batch-size"
            ) from error
        if ran_out_of_memory(str(error)):
            raise MemoryError("in PyTorch; use a smaller --batch-size or --input-size") from error
        raise
