"""Broadcasts only the latest item; slow clients skip items."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager


class TooManySubscribers(Exception):
    """Raised when a broadcast is full; not a user error, as the client is told to try again later."""


class LatestBroadcast:
    """Latest published item for any number of subscribers, without queues. Not thread-safe: use one event loop.

    Attributes:
        subscribers: Current number of subscribers.
        refused: Number of subscriptions refused because the broadcast was full.
    """

    def __init__(self, *, max_subscribers: int) -> None:
        self.subscribers = 0
        self.refused = 0
        self._max_subscribers = max_subscribers
        self._latest = b""
        self._number = 0
        self._skipped_by_all = 0
        self._ended = False
        self._changed = asyncio.Event()

    @contextmanager
    def subscription(self) -> Iterator[None]:
        """Count as a subscriber within the block.

        Raises:
            TooManySubscribers: The broadcast is full.
        """
        if self.subscribers >= self._max_subscribers:
            self.refused += 1
            raise TooManySubscribers
        if not self.subscribers:
            self._skipped_by_all = self._number  # what earlier subscribers were sent may be hours old
        self.subscribers += 1
        try:
            yield
        finally:
            self.subscribers -= 1

    def publish(self, chunk: bytes) -> None:
        """Replace the latest item."""
        self._latest = chunk
        self._number += 1
        self._wake()

    def end(self) -> None:
        """End the broadcast; subscribers still receive the latest item."""
        self._ended = True
        self._wake()

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield each latest item, preceded by an empty chunk, to a holder of a `subscription`.

        The sender blocks on the empty chunk until its client can take more, so the item after it is the latest by then.
        """
        sent = self._skipped_by_all
        while True:
            while self._number == sent and not self._ended:
                await self._changed.wait()
            if self._number == sent:
                return
            yield b""
            sent = self._number
            yield self._latest

    def _wake(self) -> None:
        before, self._changed = self._changed, asyncio.Event()
        before.set()
