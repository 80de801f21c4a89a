"""The test's side of :mod:`tests.killing.house_process`: open houses, kill them, see them end."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from itertools import count
from pathlib import Path
from threading import Thread
from typing import Any, Final

import httpx2

from tests.conftest import DatabaseUrls
from tests.killing.house_process import Order
from tests.killing.points import Point

ROOT: Final = Path(__file__).parents[2]
START_SECONDS: Final = 60


class House:
    """One process. ``url``: where it listens, once it is ``ready``; ``code``: how it ``ended`` (-9: killed);
    ``stuck``: it stands still at a point; ``reached_at``: when it came to one where it waits, by the loop's time."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.url = ""
        self.pid = 0
        self.code: int | None = None
        self.ready = asyncio.Event()
        self.ended = asyncio.Event()
        self.stuck = asyncio.Event()
        self.reached: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self.reached_at: dict[str, float] = {}
        self.client = httpx2.AsyncClient(timeout=60, trust_env=False)
        self._loop = asyncio.get_running_loop()

    def told(self, news: dict[str, Any]) -> None:
        """From the thread that reads."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._hear, news)

    def _hear(self, news: dict[str, Any]) -> None:
        if "ready" in news:
            self.url, self.pid = news["ready"], news["pid"]
            self.ready.set()
        elif "stuck" in news:
            self.stuck.set()
        elif "reached" in news:
            self.reached_at[news["reached"]] = self._loop.time()
            self.reached[news["reached"]].set()
        else:
            self.code = news["ended"]
            self.ended.set()
            self.ready.set()

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    async def kill(self) -> None:
        """kill -9, and see that it is gone."""
        self.signal(signal.SIGKILL)
        await self.gone()

    async def stopped(self) -> None:
        """Return once it stands still: it says so right before it does."""
        while not self.ended.is_set() and " T " not in self._stat():  # noqa: ASYNC110  it tells nobody
            await asyncio.sleep(0.001)
        assert not self.ended.is_set(), f"a process that stood still ended with {self.code}"

    def _stat(self) -> str:
        with suppress(FileNotFoundError):
            return Path(f"/proc/{self.pid}/stat").read_text()
        return ""

    async def gone(self, seconds: float = 60) -> None:
        async with asyncio.timeout(seconds):
            await self.ended.wait()

    async def close(self) -> None:
        """End it at once, if it lives."""
        await self.client.aclose()
        if not self.ended.is_set():
            await self.kill()


class Houses:
    """The process that all houses come from, for a whole session of tests; each test has houses of its own loop."""

    def __init__(self, log: Path) -> None:
        self._numbers = count()
        self._houses: dict[int, House] = {}
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.killing.house_process"],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
            )
        assert self._process.stdout is not None
        assert self._process.stdout.readline(), log.read_text()
        self._reader = Thread(target=self._read, name="houses", daemon=True)
        self._reader.start()

    async def open(
        self,
        urls: DatabaseUrls,
        model: str,
        *,
        points: Sequence[Point] = (),
        lease: float | None = None,
        look: float | None = None,
        work: bool = False,
        files: Path | None = None,
        settings: Mapping[str, str] = {},
        defects: Sequence[str] = (),
    ) -> House:
        house = House(next(self._numbers))
        self._houses[house.number] = house
        order = Order(
            *(
                house.number,
                urls.app,
                urls.ops,
                model,
                work,
                str(files) if files else None,
                dict(settings),
                lease,
                look,
            ),
            points=tuple(points),
            defects=tuple(defects),
        )
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(asdict(order)).encode() + b"\n")
        self._process.stdin.flush()
        async with asyncio.timeout(START_SECONDS):
            await house.ready.wait()
        assert house.code is None, f"a house ended ({house.code}) before it was ready"
        return house

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(60)
        self._reader.join(60)
        self._process.stdout.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            news = json.loads(line)
            house = self._houses.get(news["number"])
            if house is not None:
                house.told(news)
