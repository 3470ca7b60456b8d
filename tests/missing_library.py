"""Skips tests of commands for which a library is not installed, as at the oldest versions without torch."""

from __future__ import annotations

import re

import pytest
from typer.testing import Result


def skip_without_library(result: Result) -> None:
    """Skip the test whose command ended because a library for training is missing."""
    if missing := re.search(r"needs (\w+), which is not installed", result.stderr):
        pytest.skip(f"{missing[1]} is not installed")
