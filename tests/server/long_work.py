"""Work of a tool that takes as long as a test wants it to."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field


@dataclass
class LongWork:
    """What it waits for, and how often it began and was cancelled."""

    go_on: asyncio.Event = field(default_factory=asyncio.Event)
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)
    starts: int = 0

    async def pause(self) -> None:
        self.starts += 1
        self.begun.set()
        try:
            await self.go_on.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
