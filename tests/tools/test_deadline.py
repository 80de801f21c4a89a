"""The shared time limit behaves as ``asyncio.timeout`` does."""

import asyncio
import contextlib

import pytest

from tools.deadline import Deadline


async def forever(deadline: Deadline, ended: list[str]) -> None:
    with deadline.kept():
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("cancelled")


async def test_what_takes_too_long_is_cancelled_and_becomes_a_timeout() -> None:
    ended: list[str] = []
    with pytest.raises(TimeoutError):
        await forever(Deadline(0.01), ended)
    assert ended == ["cancelled"]
    task = asyncio.current_task()
    assert task is not None
    assert not task.cancelling()


async def test_each_of_many_ends_in_its_own_time_also_after_one_that_was_in_time() -> None:
    deadline, clock = Deadline(0.05), asyncio.get_running_loop().time

    async def taken() -> float:
        began = clock()
        with contextlib.suppress(TimeoutError):
            await forever(deadline, [])
        return clock() - began

    with deadline.kept():
        await asyncio.sleep(0)
    first = [asyncio.create_task(taken()) for _ in range(3)]
    await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
    all_of_them = [*await asyncio.gather(*first), await taken()]
    assert all(seconds >= 0.045 for seconds in all_of_them)


async def test_being_cancelled_from_outside_stays_a_cancellation() -> None:
    deadline, begun = Deadline(30), asyncio.Event()

    async def work() -> None:
        with deadline.kept():
            begun.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_a_deadline_outlives_the_event_loop_it_was_first_used_on() -> None:
    deadline = Deadline(0.01)

    async def late() -> None:
        with deadline.kept():
            await asyncio.Event().wait()

    async def prompt() -> None:
        with deadline.kept():
            return

    asyncio.run(prompt())
    with pytest.raises(TimeoutError):
        asyncio.run(late())
