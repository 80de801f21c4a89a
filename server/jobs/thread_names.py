"""Gives threads names that people recognise them by: the first words of what the user said.

No model is asked for it: that would cost somebody money, and time of a model that others wait for.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from db import threads, transcript
from server.jobs.job import JobCall

LONGEST: Final = 60
_MARKUP: Final = re.compile(r"^[\s#>*\-+`_~|]+|[`*_~]+|!?\[([^\]]*)\]\([^)]*\)")
_SENTENCE: Final = re.compile(r"(?<=[.!?\u3002\uff01\uff1f])\s")


async def name_thread(job: JobCall) -> None:
    """Name a thread after what was said first in it, unless it has a name."""
    thread_id = job.uuid("thread_id")
    async with job.transaction() as connection:
        if job.project_id is not None:
            rows = await threads.first_messages(connection, job.project_id, thread_id)
            name = name_of(transcript.messages(rows))
            if name:
                await threads.name_once(connection, job.project_id, thread_id, name)
        await job.finish(connection)


def name_of(messages: Iterable[Mapping[str, Any]]) -> str:
    """Of the first message of a user that says anything: its first sentence, or as many of its words as fit."""
    for message in messages:
        name = shortened(_text(message.get("content"))) if message.get("role") == "user" else ""
        if name:
            return name
    return ""


def shortened(text: str) -> str:
    """The first sentence of ``text`` in one line, without markup, of at most ``LONGEST`` characters."""
    for line in text.splitlines():
        plain = " ".join(_MARKUP.sub(r"\1", line).split())
        if plain:
            return _cut(_SENTENCE.split(plain)[0])
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
