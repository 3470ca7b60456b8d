from __future__ import annotations

import asyncio

import pytest

from mien.runtime.live.broadcast import Feed, FeedFull


async def take(chunks: object) -> bytes:
    return await asyncio.wait_for(anext(chunks), 5)  # type: ignore[call-overload]


def test_whoever_is_slow_skips_to_the_newest() -> None:
    async def play() -> None:
        feed = Feed(seats=2)
        with feed.seat(), feed.seat():
            slow, quick = feed.chunks(), feed.chunks()
            feed.publish(b"1")
            assert await take(slow) == b""  # it waits for room …
            assert [await take(quick), await take(quick)] == [b"", b"1"]
            feed.publish(b"2")
            assert [await take(quick), await take(quick)] == [b"", b"2"]
            feed.publish(b"3")
            assert await take(slow) == b"3"  # … and gets what is newest then
            waiting = asyncio.create_task(take(slow))
            await asyncio.sleep(0.01)
            assert not waiting.done()
            feed.publish(b"4")
            assert [await waiting, await take(slow)] == [b"", b"4"]

    asyncio.run(play())


def test_the_end_comes_after_the_newest() -> None:
    async def play() -> None:
        feed = Feed(seats=1)
        with feed.seat():
            chunks = feed.chunks()
            feed.publish(b"last")
            feed.end()
            assert [chunk async for chunk in chunks] == [b"", b"last"]
            assert [chunk async for chunk in feed.chunks()] == [b"", b"last"]

    asyncio.run(play())


def test_the_first_to_come_back_sees_nothing_old() -> None:
    async def play() -> None:
        feed = Feed(seats=2)
        with feed.seat():
            feed.publish(b"old")
        with feed.seat():
            waiting = asyncio.create_task(take(feed.chunks()))
            await asyncio.sleep(0.01)
            assert not waiting.done()
            feed.publish(b"new")
            assert await waiting == b""

    asyncio.run(play())


def test_seats() -> None:
    feed = Feed(seats=1)
    with feed.seat():
        with pytest.raises(FeedFull), feed.seat():
            pass
        assert (feed.watchers, feed.refused) == (1, 1)
    with feed.seat():
        assert (feed.watchers, feed.refused) == (1, 1)
