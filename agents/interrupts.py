"""Calls of a run that wait for a person: told as interrupts (AG-UI 1.0), answered by ``resume`` of the next run.

What is asked, and what was answered, is the house's own record, which the engine reaches through :class:`Consent`. The
thread knows which of its open calls wait for which record; a client names records only, so nothing it echoes counts.
The call that is made in the end is the one in the thread, and dispatch lets it through only if its record says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Protocol
from uuid import UUID

from db.errors import AppError
from db.principal import Principal

if TYPE_CHECKING:
    from db.database import Connection

NOT_ALLOWED: Final = "A person was asked and did not allow this call. Do not repeat it; ask what they want instead."
PASSED_OVER: Final = "This call was not allowed: the user went on with a new message instead of answering."
RESPONSE: Final[Mapping[str, Any]] = {
    "type": "object",
    "properties": {"approved": {"type": "boolean"}, "reason": {"type": "string"}},
    "required": ["approved"],
}
"""What ``payload`` of an answer looks like (JSON Schema)."""


class Question(Protocol):
    """What a person is asked. ``facts``: what they should see as well, by label; models never get them."""

    @property
    def tool(self) -> str: ...

    @property
    def effect(self) -> str: ...

    @property
    def facts(self) -> Mapping[str, str]: ...

    @property
    def url(self) -> str: ...

    @property
    def expires_at(self) -> datetime: ...


class Consent(Protocol):
    """The records of what waits for a person. Each call is made within a transaction of the caller."""

    async def questions(
        self, connection: Connection, principal: Principal, ids: Iterable[UUID]
    ) -> Mapping[UUID, Question]:
        """What the runs of ``principal`` asked under these ids."""
        ...

    async def settle(
        self, connection: Connection, principal: Principal, project_id: UUID, approval_id: UUID, approve: bool | None
    ) -> None:
        """Record what the client answered; ``None``: whatever a person decides elsewhere. Raises AppError unless the
        call may be made, or was denied by this very answer."""
        ...


@dataclass(frozen=True, slots=True)
class Resume:
    """A client's answer to one interrupt. ``approve`` is ``None`` for what is decided elsewhere."""

    interrupt_id: str
    approve: bool | None
    reason: str = ""

    @property
    def denial(self) -> str | None:
        """What the model is told, if the call is not to be made."""
        if self.approve is not False:
            return None
        return f"{NOT_ALLOWED} They said: {self.reason}" if self.reason else NOT_ALLOWED


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer and the record it is about. ``meant``: the client names the record, so there has to be one."""

    approval_id: UUID
    approve: bool | None
    meant: bool = True


async def settle(
    consent: Consent, connection: Connection, principal: Principal, project_id: UUID, answered: Iterable[Answered]
) -> None:
    """Record what a client answered. What it passes over with a new message may have been asked by another key, whose
    record is not its to change. Raises AppError."""
    for answer in answered:
        try:
            await consent.settle(connection, principal, project_id, answer.approval_id, answer.approve)
        except AppError as error:
            if answer.meant or error.status != 404:
                raise


class Unasked:
    """The consent of a house that has no records: nothing of it can be resumed."""

    async def questions(
        self, connection: Connection, principal: Principal, ids: Iterable[UUID]
    ) -> Mapping[UUID, Question]:
        """None: nothing asks."""
        return {}

    async def settle(
        self, connection: Connection, principal: Principal, project_id: UUID, approval_id: UUID, approve: bool | None
    ) -> None:
        """Raises ``AppError`` ``interrupt_not_found``."""
        raise AppError("interrupt_not_found", 404, "There is no such interrupt.", "Leave 'resume' out.")


def told(approval_id: UUID, call_id: str, question: Question) -> dict[str, Any]:
    """An AG-UI ``Interrupt``."""
    return {
        "id": str(approval_id),
        "reason": "tool_call",
        "message": question.effect,
        "toolCallId": call_id,
        "responseSchema": RESPONSE,
        "expiresAt": question.expires_at.isoformat(),
        "metadata": {"tool": question.tool, "facts": dict(question.facts), "url": question.url},
    }
