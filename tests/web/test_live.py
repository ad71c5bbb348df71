"""What changes of open pages is computed once for all of them, and sent when it has changed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from engine.errors import Overloaded, StoreError
from engine.web.live import IDLE, MAX_FOLLOWERS, MAX_PAGES, Live, message


class Numbers:
    """Pages whose text a test sets; counts how often each was computed."""

    def __init__(self) -> None:
        self.text = "one"
        self.computed: list[str] = []
        self.fails: Exception | None = None

    async def compute(self, key: str) -> str:
        self.computed.append(key)
        if self.fails is not None:
            raise self.fails
        return f"{key}: {self.text}"


async def newest(follower: AsyncIterator[bytes]) -> bytes:
    """The next thing that is no comment."""
    async for part in follower:
        if part != IDLE:
            return part
    raise AssertionError("it has ended")


def test_two_hundred_pages_cost_one_computation_and_all_get_the_change() -> None:
    async def follow() -> None:
        numbers = Numbers()
        live = Live[str](numbers.compute, every_s=0.02)
        followers = [live.follow("/") for _ in range(200)]
        first = await asyncio.gather(*map(newest, followers))
        assert set(first) == {message("page", "/: one")}
        assert len(numbers.computed) <= 3  # not 200
        numbers.text = "two"
        assert set(await asyncio.gather(*map(newest, followers))) == {message("page", "/: two")}
        for one in followers:
            await one.aclose()  # type: ignore[attr-defined]
        assert live.followers == 0
        before = len(numbers.computed)
        await asyncio.sleep(0.1)
        assert len(numbers.computed) <= before + 1  # nobody looks

    asyncio.run(follow())


@pytest.mark.parametrize("failure", [StoreError("the disk is full"), KeyError("a fault of ours")])
def test_a_page_that_cannot_be_computed_stays_as_it_is_and_comes_back(failure: Exception) -> None:
    async def follow() -> None:
        numbers = Numbers()
        live = Live[str](numbers.compute, every_s=0.01, idle_s=0.01)
        one = live.follow("/")
        assert await newest(one) == message("page", "/: one")
        numbers.fails = failure
        numbers.text = "two"
        assert await anext(one) == IDLE  # the connection shows that it lives
        numbers.fails = None
        assert await newest(one) == message("page", "/: two")

    asyncio.run(follow())


def test_when_the_service_stops_every_stream_ends() -> None:
    async def follow() -> None:
        is_over = False
        live = Live[str](Numbers().compute, every_s=0.01, idle_s=60, is_over=lambda: is_over)
        followers = [live.follow("/"), live.follow("/rules")]
        await asyncio.gather(*map(newest, followers))
        is_over = True
        for one in followers:
            with pytest.raises(StopAsyncIteration):
                await asyncio.wait_for(anext(one), 30)
        assert live.followers == 0

    asyncio.run(follow())


def test_pages_are_computed_one_after_the_other_and_each_gets_its_own() -> None:
    async def follow() -> None:
        numbers = Numbers()
        live = Live[str](numbers.compute, every_s=0.01)
        some = {key: live.follow(key) for key in ("/", "/clients", "/rules")}
        for key, one in some.items():
            assert await newest(one) == message("page", f"{key}: one")

    asyncio.run(follow())


def test_there_is_a_bound_on_pages_that_are_followed() -> None:
    async def follow() -> None:
        live = Live[str](Numbers().compute, every_s=0.01)
        kept = [live.follow(f"/{number}") for number in range(MAX_PAGES)]
        await asyncio.gather(*map(newest, kept))
        with pytest.raises(Overloaded):
            live.check_room("/another")
        live.check_room("/1")
        more = [live.follow("/1") for _ in range(MAX_FOLLOWERS - MAX_PAGES)]
        await asyncio.gather(*map(newest, more))
        with pytest.raises(Overloaded):
            live.check_room("/1")

    asyncio.run(follow())


def test_a_text_of_several_lines_is_one_message() -> None:
    assert message("page", "<p>\na\r\nb") == b"event: page\ndata: <p>\ndata: a\ndata: b\n\n"
    assert message("token", "") == b"event: token\ndata: \n\n"
