"""Work whose length somebody else decides, done beside the event loop: meanwhile all streams go on.

Python's threads let each other work every few milliseconds, but not within one call of a C function: whoever gives work
here sees to it that none of those takes long. One thread of a process does all of it, one piece of work after the
other, so that the loop never has more than one beside it.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

SMALL: Final = 64 << 10
"""Bytes of JSON that are read on the loop: to go aside with them would take longer than they do."""
Came = TypeVar("Came")
_thread: Final = ThreadPoolExecutor(1, thread_name_prefix="innkeeper-aside")


async def aside(work: Callable[[], Came]) -> Came:
    """What ``work`` returns or raises, in the context of the caller. Who is cancelled does not wait for its end."""
    context = contextvars.copy_context()
    return await asyncio.get_running_loop().run_in_executor(_thread, lambda: context.run(work))
