from __future__ import annotations

import asyncio

import pytest

from mien.runtime.live.broadcast import LatestBroadcast, TooManySubscribers


async def take(chunks: object) -> bytes:
    return await asyncio.wait_for(anext(chunks), 5)  # type: ignore[call-overload]


def test_whoever_is_slow_skips_to_the_newest() -> None:
    async def play() -> None:
        broadcast = LatestBroadcast(max_subscribers=2)
        with broadcast.subscription(), broadcast.subscription():
            slow, quick = broadcast.chunks(), broadcast.chunks()
            broadcast.publish(b"1")
            assert await take(slow) == b""  # it waits for room …
            assert [await take(quick), await take(quick)] == [b"", b"1"]
            broadcast.publish(b"2")
            assert [await take(quick), await take(quick)] == [b"", b"2"]
            broadcast.publish(b"3")
            assert await take(slow) == b"3"  # … and gets what is newest then
            waiting = asyncio.create_task(take(slow))
            await asyncio.sleep(0.01)
            assert not waiting.done()
            broadcast.publish(b"4")
            assert [await waiting, await take(slow)] == [b"", b"4"]

    asyncio.run(play())


def test_the_end_comes_after_the_newest() -> None:
    async def play() -> None:
        broadcast = LatestBroadcast(max_subscribers=1)
        with broadcast.subscription():
            chunks = broadcast.chunks()
            broadcast.publish(b"last")
            broadcast.end()
            assert [chunk async for chunk in chunks] == [b"", b"last"]
            assert [chunk async for chunk in broadcast.chunks()] == [b"", b"last"]

    asyncio.run(play())


def test_the_first_to_come_back_sees_nothing_old() -> None:
    async def play() -> None:
        broadcast = LatestBroadcast(max_subscribers=2)
        with broadcast.subscription():
            broadcast.publish(b"old")
        with broadcast.subscription():
            waiting = asyncio.create_task(take(broadcast.chunks()))
            await asyncio.sleep(0.01)
            assert not waiting.done()
            broadcast.publish(b"new")
            assert await waiting == b""

    asyncio.run(play())


def test_seats() -> None:
    broadcast = LatestBroadcast(max_subscribers=1)
    with broadcast.subscription():
        with pytest.raises(TooManySubscribers), broadcast.subscription():
            pass
        assert (broadcast.subscribers, broadcast.refused) == (1, 1)
    with broadcast.subscription():
        assert (broadcast.subscribers, broadcast.refused) == (1, 1)
