"""Arrays that take long to compute, kept in the cache folder."""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import zipfile
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ...runtime.atomic_file import write_atomic
from ...runtime.files import cache_folder

log = logging.getLogger("mien")

Arrays = dict[str, npt.NDArray[Any]]


def cached_arrays(name: str, key: Sequence[object], compute: Callable[[], Arrays]) -> Arrays:
    """Return arrays that take long to compute, from the cache folder if they were computed before.

    Args:
        name: What they are; the beginning of the file's name.
        key: Everything that decides their values.
        compute: Computes them where the cache does not hold them.
    """
    digest = hashlib.sha256("\n".join(map(str, key)).encode()).hexdigest()
    path = cache_folder() / "distillation" / f"{name}-{digest[:32]}.npz"
    none_or_damaged = contextlib.suppress(OSError, ValueError, EOFError, zipfile.BadZipFile)
    with none_or_damaged, path.open("rb") as file, np.load(file) as stored:
        return dict(stored)
    arrays = compute()
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, buffer.getvalue())
    except OSError as error:
        log.warning("%s could not be kept for the next time (%s)", name, error)
    return arrays
