"""The one LISTEN connection of a process."""

from __future__ import annotations

import asyncio

from db.database import Database
from tests.conftest import DatabaseUrls


async def test_channels_that_are_asked_for_at_once_while_it_connects_are_all_heard(urls: DatabaseUrls) -> None:
    database = await Database.open(urls.app, min_size=1, max_size=2)
    heard: dict[str, asyncio.Future[str]] = {}
    try:
        listening = []
        for number in range(30):
            heard[f"channel_{number}"] = said = asyncio.get_running_loop().create_future()
            listening.append(asyncio.create_task(database.listener.listen(f"channel_{number}", said.set_result)))
            # Each of them meets the connection at another step of its beginning.
            await asyncio.sleep(0)
        await asyncio.gather(*listening)
        await database.listener.wait()
        await asyncio.gather(*(database.listener.listen(f"later_{number}", print) for number in range(5)))
        async with database.system() as connection:
            for channel in heard:
                await connection.execute("SELECT pg_notify($1, $2)", channel, channel)
        async with asyncio.timeout(60):
            assert {channel: await said for channel, said in heard.items()} == {channel: channel for channel in heard}
    finally:
        await database.close()
