"""Starts the embedded PostgreSQL again whenever it went away, for as long as its owner wants it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final, NoReturn

from db.embedded.cluster import EmbeddedPostgres, Progress
from db.embedded.errors import EmbeddedError

PAUSES: Final = (0.0, 0.5, 1.0, 2.0, *[5.0] * 35)
"""Seconds before each attempt to start it: whoever frees a full disk within three minutes needs to do no more."""
APART: Final = 1.0
"""Seconds between two starts at least, should it go away each time."""


@asynccontextmanager
async def kept(
    cluster: EmbeddedPostgres, progress: Progress, give_up: Callable[[], None], pauses: Sequence[float] = PAUSES
) -> AsyncIterator[None]:
    """Inside, ``cluster`` is started again whenever it went away, killed or stopped by somebody else.

    ``progress`` must not wait for whoever reads what it says. When the last of the attempts after ``pauses`` fails,
    ``give_up`` is called once, and its EmbeddedError is raised at the end.
    """
    keeping = asyncio.create_task(_keep(cluster, progress, pauses), name="keep-postgres")
    keeping.add_done_callback(lambda task: None if task.cancelled() else give_up())
    try:
        yield
    finally:
        keeping.cancel()
        await asyncio.wait([keeping])
        if not keeping.cancelled():
            keeping.result()


async def _keep(cluster: EmbeddedPostgres, progress: Progress, pauses: Sequence[float]) -> NoReturn:
    clock = asyncio.get_running_loop().time
    while True:
        how = await cluster.ended()
        since = clock()
        progress(f"PostgreSQL went away: {how}")
        await _start_again(cluster, progress, pauses)
        progress(f"PostgreSQL answers again after {clock() - since:.1f} s")
        await asyncio.sleep(APART)


async def _start_again(cluster: EmbeddedPostgres, progress: Progress, pauses: Sequence[float]) -> None:
    for number, (pause, following) in enumerate(zip(pauses, (*pauses[1:], None), strict=True), 1):
        await asyncio.sleep(pause)
        try:
            await cluster.start_again(progress)
        except EmbeddedError as error:
            progress(f"attempt {number} of {len(pauses)} failed: {error.message}")
            if following is None:
                raise
            progress(f"the next attempt is in {following:g} s")
        else:
            return
