"""Words for messages."""

from __future__ import annotations


def counted(number: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun: ``1 face``, ``2 faces``.

    Args:
        number: Number of things.
        noun: Word for one of them.
        plural: Word for several of them, if it does not end with another s.
    """
    return f"{number} {noun if number == 1 else plural or noun + 's'}"
