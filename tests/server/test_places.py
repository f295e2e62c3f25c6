"""Places in the engine: first come, first served, also when some who wait give up."""

import asyncio
import random
from collections.abc import Coroutine
from typing import Any

import pytest

from neva.server.errors import ApiError
from neva.server.limits import Admission
from neva.server.settings import Limits


class Guests:
    """Tasks that want places, and the order in which they came in."""

    def __init__(self, running: int, waiting: int = 64) -> None:
        self.admission = Admission(Limits(running=running, waiting=waiting))
        self.order: list[str] = []

    async def come(self, name: str, answers: int, stay: asyncio.Event) -> None:
        async with self.admission.place(answers):
            self.order.append(name)
            assert self.admission.running <= 4
            await stay.wait()

    def figures(self) -> tuple[int, int]:
        return self.admission.running, self.admission.waiting


def start(work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
    return asyncio.ensure_future(work)


async def settle() -> None:
    for _ in range(8):
        await asyncio.sleep(0)


def test_who_needs_several_places_is_not_overtaken() -> None:
    """Six clients that ask for one answer after the other, and one that asks for four at once."""

    async def play() -> int:
        guests, over, given = Guests(4), asyncio.Event(), 0

        async def small() -> None:
            nonlocal given
            while not over.is_set() and given < 1000:
                async with guests.admission.place():
                    given += 1
                    await asyncio.sleep(0.001)

        clients = [start(small()) for _ in range(6)]
        await asyncio.sleep(0.02)
        before = given
        async with guests.admission.place(4):
            during = given - before
        over.set()
        await asyncio.gather(*clients)
        assert guests.figures() == (0, 0)
        return during

    assert asyncio.run(play()) <= 6, "those that ran or waited already, and no more"


def test_in_the_order_of_their_coming() -> None:
    async def play() -> list[str]:
        guests, first, rest = Guests(4), asyncio.Event(), asyncio.Event()
        rest.set()
        tasks = [start(guests.come("a", 3, first))]
        await settle()
        for name, answers in (("b", 4), ("c", 1), ("d", 2)):
            tasks.append(start(guests.come(name, answers, rest)))
            await settle()
        assert guests.figures() == (3, 7), "c would fit, but b was first"
        first.set()
        await asyncio.gather(*tasks)
        assert guests.figures() == (0, 0)
        return guests.order

    assert asyncio.run(play()) == ["a", "b", "c", "d"]


def test_who_gives_up_lets_those_behind_in() -> None:
    async def play() -> list[str]:
        guests, stay = Guests(4), asyncio.Event()
        tasks = [start(guests.come("a", 3, stay))]
        await settle()
        large = start(guests.come("b", 4, stay))
        await settle()
        tasks.append(start(guests.come("c", 1, stay)))
        await settle()
        assert guests.order == ["a"]
        large.cancel()
        await settle()
        assert guests.figures() == (4, 0)
        stay.set()
        await asyncio.gather(*tasks)
        assert large.cancelled() and guests.figures() == (0, 0)
        return guests.order

    assert asyncio.run(play()) == ["a", "c"]


def test_giving_up_in_the_moment_of_ones_turn() -> None:
    """The place was given, and is given to the next."""

    async def play() -> list[str]:
        guests, first, rest = Guests(1), asyncio.Event(), asyncio.Event()
        rest.set()
        tasks = [start(guests.come(name, 1, first if name == "a" else rest)) for name in "abc"]
        await settle()
        first.set()
        await asyncio.sleep(0)  # a ends and gives its place to b, which has not noticed yet
        await asyncio.sleep(0)
        tasks[1].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert guests.figures() == (0, 0)
        return guests.order

    assert asyncio.run(play())[-1] == "c"


def test_nothing_is_lost_when_many_give_up() -> None:
    async def play(seed: int) -> None:
        chance, guests = random.Random(seed), Guests(4, waiting=1000)

        async def visit() -> None:
            async with guests.admission.place(chance.randint(1, 4)):
                assert guests.admission.running <= 4
                for _ in range(chance.randrange(4)):
                    await asyncio.sleep(0)

        tasks = []
        for _ in range(200):
            tasks.append(start(visit()))
            if chance.random() < 0.3:
                chance.choice(tasks).cancel()
            if chance.random() < 0.5:
                await asyncio.sleep(0)
        async with asyncio.timeout(20):
            await asyncio.gather(*tasks, return_exceptions=True)
        assert guests.figures() == (0, 0)
        async with guests.admission.place(4):
            pass

    for seed in range(20):
        asyncio.run(play(seed))


def test_a_full_line_is_told_and_too_many_at_once_too() -> None:
    async def play() -> None:
        guests, stay = Guests(4, waiting=2), asyncio.Event()
        tasks = [start(guests.come(str(number), 2, stay)) for number in range(3)]
        await settle()
        assert guests.figures() == (4, 2)
        with pytest.raises(ApiError) as full:
            await guests.come("late", 1, stay)
        with pytest.raises(ApiError) as never:
            await guests.come("large", 5, stay)
        assert (full.value.status_code, never.value.status_code) == (429, 422)
        stay.set()
        await asyncio.gather(*tasks)

    asyncio.run(play())
