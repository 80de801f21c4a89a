"""A thread that is to begin, with what was said before in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self
from uuid import UUID

import asyncpg

from agents.engine import RunEngine
from db import conversations, projects, runs
from db.errors import AppError, invalid, needs_member
from db.ids import uuid7
from db.principal import Principal
from db.runs import StoredMessage
from server.v1.asked import InitialMessage, NewThread, metadata
from server.v1.translate import content

if TYPE_CHECKING:
    from db.database import Connection


@dataclass(frozen=True, slots=True)
class Beginning:
    """``instructs``: among its messages is one of the system, which a project has to allow."""

    id: UUID
    metadata: dict[str, Any]
    messages: Sequence[StoredMessage]
    instructs: bool

    @classmethod
    async def of(cls, engine: RunEngine, wanted: NewThread, data: dict[str, Any] | None = None) -> Self:
        """``data``: its metadata, unless it has some of its own. Raises AppError."""
        said = wanted.initial_messages or []
        kept = metadata(data if wanted.metadata is None else wanted.metadata)
        stored: Sequence[StoredMessage] = ()
        if said:
            stored = await engine.told_before([_said(one) for one in said], [one.metadata for one in said])
        return cls(uuid7(), kept, stored, any(one.role == "system" for one in said))

    async def begin(self, connection: Connection, principal: Principal, project_id: UUID) -> UUID:
        """The thread's id. It is the caller's, or of the end user that it acts for. Raises AppError."""
        if self.instructs:
            await _allowed(connection, project_id)
        owner = principal.end_user_id
        try:
            await conversations.create(connection, project_id, self.id, owner, self.metadata)
        except asyncpg.InsufficientPrivilegeError as error:
            raise needs_member() from error
        if self.messages:
            await runs.add_messages(connection, project_id, self.id, None, owner, self.messages)
        return self.id


def _said(message: InitialMessage) -> dict[str, Any]:
    said = content(message.content)
    if message.role != "user" and not isinstance(said, str):
        if any(part["type"] != "text" for part in said):
            raise invalid("Only users bring resources along.", "Send text.", "content_not_supported")
        said = "\n".join(part["text"] for part in said)
    return {"role": message.role, "content": said}


async def _allowed(connection: Connection, project_id: UUID) -> None:
    row = await projects.fetch(connection, project_id)
    if row is None or not row["allow_prompt_override"]:
        raise AppError(
            "system_message_not_allowed",
            403,
            "This project takes no instructions from its clients.",
            "Leave out the initial message of the role system, or allow it: update_project allow_prompt_override.",
            details={"next_tool": "update_project"},
        )
