"""The explicit end of a write that takes long. Nobody but its credential can name it: by its idempotency key, from any
connection and any process. What it did is rolled back with its transaction, and the key is free again.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from types import TracebackType
from typing import TYPE_CHECKING

from db import long_writes
from db.database import Database
from db.errors import AppError, not_found
from db.principal import Principal

if TYPE_CHECKING:
    from db.database import Connection


class LongWrites:
    """The long writes of this process that have a key. Holds one small object for each while it is at work."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._at_work: defaultdict[str, set[LongWrite]] = defaultdict(set)

    def __len__(self) -> int:
        return sum(map(len, self._at_work.values()))

    async def listen(self) -> None:
        """Hear from now on what other processes are asked to end. Once in the life of a process."""
        await self._database.listener.listen(long_writes.CHANNEL, self._told)

    def begin(self, principal: Principal, key: str) -> LongWrite:
        """``with`` this the current task can be asked to end what it does in it."""
        return LongWrite(self, long_writes.digest(principal.credential_id, key))

    async def stop(self, principal: Principal, key: str) -> None:
        """Ask for the end of the write that ``principal``'s credential sent with ``key``, and of its repeats that wait
        for it. Returns once asked, not once ended. Raises ``AppError`` ``call_not_found`` when none is at work: there
        never was one, it is another's, or it has ended; nobody can tell these apart."""
        name = long_writes.digest(principal.credential_id, key)
        async with self._database.system() as connection:
            held, asked = await long_writes.ask_to_stop(connection, name)
        # The listening connection may be down; what is at work here needs none.
        here = [write for write in self._at_work.get(name, ()) if write.began is None or write.began < asked]
        for write in here:
            write.cancel()
        if not (here or held):
            raise not_found("call", "Send the call again with its key: it answers what was saved, or does the work.")

    def _told(self, payload: str) -> None:
        name, _, asked = payload.partition(" ")
        for write in tuple(self._at_work.get(name, ())):
            write.told(int(asked))

    def enter(self, name: str, write: LongWrite) -> None:
        self._at_work[name].add(write)

    def leave(self, name: str, write: LongWrite) -> None:
        self._at_work[name].discard(write)
        if not self._at_work[name]:
            del self._at_work[name]


class LongWrite:
    """One long write, in the task that does it. Being asked to end surfaces as ``AppError`` ``cancelled``.

    ``began``: by the database's clock, once :meth:`date` has asked for it.
    """

    __slots__ = ("_asked", "_cancelling", "_name", "_news", "_task", "_writes", "began")

    def __init__(self, writes: LongWrites, name: str) -> None:
        self._writes = writes
        self._name = name
        self._asked = False
        self._news = 0
        self.began: int | None = None

    def __enter__(self) -> LongWrite:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a long write needs a task that can be ended")
        self._task = task
        self._cancelling = task.cancelling()
        self._writes.enter(self._name, self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writes.leave(self._name, self)
        if self._asked and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise AppError(
                "cancelled",
                409,
                "This call was cancelled by its key before its end, and has changed nothing.",
                "Do not repeat it by yourself. If it is wanted after all, send it with the same key.",
            ) from error

    async def date(self, database: Database) -> None:
        """Note when it began. A notification may come late, when the key that it names is at work once more: what
        began after somebody asked is not meant."""
        async with database.system() as connection:
            self.began = await long_writes.clock(connection)
        self.told(self._news)

    async def hold(self, connection: Connection) -> None:
        """Let other processes see it, until the end of the transaction on ``connection``."""
        await long_writes.hold(connection, self._name)

    def conclude(self) -> None:
        """It is about to commit: from here on nobody can tell whether it could still be stopped, so it is not."""
        if self._asked:
            raise asyncio.CancelledError
        self._writes.leave(self._name, self)

    def told(self, asked: int) -> None:
        """Hear that somebody asked at this time, perhaps for the end of an earlier one of the same name."""
        if self.began is None:
            self._news = max(self._news, asked)
        elif self.began < asked:
            self.cancel()

    def cancel(self) -> None:
        """Ask the work to end, once: a second cancellation would break into its clean-up."""
        if not self._asked:
            self._asked = True
            self._task.cancel()
