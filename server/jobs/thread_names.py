"""Gives threads names that people recognise them by: the first words of what the user said.

No model is asked for it: that would cost somebody money, and time of a model that others wait for.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from db import threads, transcript
from server.jobs.job import JobCall

if TYPE_CHECKING:
    import asyncpg

LONGEST: Final = 60
BATCH: Final = 20
"""At a time: a message may hold a picture."""
MOST_READ: Final = 4_000
"""Characters in which a name is looked for."""
NAMELESS: Final = "Untitled"
_MARKUP: Final = re.compile(r"^[\s#>*\-+`_~|]+|[`*_~]+|!?\[([^\]]*)\]\([^)]*\)")
_SENTENCE: Final = re.compile(r"(?<=[.!?\u3002\uff01\uff1f])\s")


async def name_threads(job: JobCall) -> None:
    """Name the threads of a project after what was said first in them, unless they have names."""
    done = 0
    while True:
        async with job.transaction() as connection:
            rows = await threads.unnamed(connection, BATCH)
            await threads.name_once(connection, {row["id"]: name_of(row) for row in rows})
        done += len(rows)
        if len(rows) < BATCH:
            return
        await job.progress(done)


def name_of(row: asyncpg.Record) -> str:
    """By the first message of a thread: its first sentence, else what it shows."""
    contents = [message.get("content") for message in transcript.messages([row]) if message.get("role") == "user"]
    name = next((name for content in contents if (name := shortened(_text(content)))), "")
    kinds = [part["type"] for content in contents if isinstance(content, list) for part in content]
    return name or (kinds[0].capitalize() if kinds else NAMELESS)


def shortened(text: str) -> str:
    """The first sentence of ``text`` in one line, without markup, of at most ``LONGEST`` characters."""
    for line in text[:MOST_READ].splitlines():
        plain = " ".join(_MARKUP.sub(r"\1", line).split())
        if plain:
            return _cut(_SENTENCE.split(plain)[0]).rstrip(".\u3002")
    return ""


def _cut(text: str) -> str:
    if len(text) <= LONGEST:
        return text
    head = text[: LONGEST - 1]
    whole = head.rpartition(" ")[0] if " " in head[LONGEST // 2 :] else head
    return f"{whole.rstrip(' ,;:')}\N{HORIZONTAL ELLIPSIS}"


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return "\n".join(part["text"] for part in parts if part.get("type") == "text")
