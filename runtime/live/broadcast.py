"""What is published again and again to many clients: each gets the newest when it has room, and none has a queue."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager


class FeedFull(Exception):
    """All seats of a feed are taken. No error of the user: the client is told to come back."""


class Feed:
    """The newest of what is published, and the clients that watch. It lives in one event loop.

    seats: how many may watch. watchers: how many do. refused: how many found no seat.
    """

    def __init__(self, *, seats: int) -> None:
        self.watchers = 0
        self.refused = 0
        self._seats = seats
        self._newest = b""
        self._number = 0
        self._seen_by_all = 0
        self._ended = False
        self._changed = asyncio.Event()

    @contextmanager
    def seat(self) -> Iterator[None]:
        """Watch.

        Raises:
            FeedFull: all seats are taken.
        """
        if self.watchers >= self._seats:
            self.refused += 1
            raise FeedFull
        if not self.watchers:
            self._seen_by_all = self._number  # what was published for those before may be hours old
        self.watchers += 1
        try:
            yield
        finally:
            self.watchers -= 1

    def publish(self, chunk: bytes) -> None:
        """Replace the newest."""
        self._newest = chunk
        self._number += 1
        self._wake()

    def end(self) -> None:
        """Nothing more will come; whoever watches still gets the newest."""
        self._ended = True
        self._wake()

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the newest again and again, from within a `seat`; an empty chunk before each asks for room.

        The sender waits with the empty chunk until its client has room, so that what follows is the newest then.
        """
        seen = self._seen_by_all
        while True:
            while self._number == seen and not self._ended:
                await self._changed.wait()
            if self._number == seen:
                return
            yield b""
            seen = self._number
            yield self._newest

    def _wake(self) -> None:
        before, self._changed = self._changed, asyncio.Event()
        before.set()
