"""The events of one run in :mod:`server.v1.dialect`, until its terminal one."""

from __future__ import annotations

import json
from dataclasses import replace
from uuid import UUID

from agents.engine import RunEngine
from agents.readers import RunHandle
from agents.wakeups import Events
from server.http.run_stream import RunStream
from server.limits.run_places import RunPlaces
from server.v1.dialect import Dialect


class V1Stream(RunStream):
    """As :class:`RunStream`; ``X-Thread-Id`` and ``X-Run-Id`` are ids of the house.

    ``handle`` reads from the first event of the run on, for what is said of one follows from those before. What is made
    of the first ``after`` of them is not sent.
    """

    def __init__(
        self, engine: RunEngine, handle: RunHandle, places: RunPlaces, thread_id: UUID, after: int = 0
    ) -> None:
        super().__init__(engine, replace(handle, thread=str(thread_id), name=str(handle.run_id)), places)
        self._dialect = Dialect(thread_id, handle.run_id)
        self._after = after

    def framed(self, found: Events) -> bytes:
        told = [(seq, self._dialect.told(event)) for seq, event in found]
        gone = self._handle.tail.gone
        return b"".join(_frame(seq, said) for seq, said in told if seq > self._after or gone)


def _frame(seq: int, told: list[dict[str, object]]) -> bytes:
    """The number of the event stands at the last of what was made of it: who has that has all of it."""
    said = [json.dumps(one, ensure_ascii=False, separators=(",", ":")).encode() for one in told]
    numbers = [b""] * (len(said) - 1) + [b"id: %d\n" % seq]
    return b"".join(b"%bdata: %b\n\n" % (number, one) for number, one in zip(numbers, said, strict=False))
