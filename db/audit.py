"""Reading the audit log: who did what, when and from where. Who may read which of it, the database decides."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from db.spans import traced

if TYPE_CHECKING:
    from db.database import Connection

KINDS: Final = (
    *("session:opened", "session:closed", "session:ended", "session:others_ended", "sign_in:limited"),
    *("sign_in:refused", "link:created", "account:created", "account:disabled", "account:enabled", "account:deleted"),
    *("admin:granted", "admin:revoked", "identity:connected", "identity:disconnected", "identity:suspended"),
    *("key:created", "key:revoked", "client:created", "client:deleted", "oauth:allowed", "oauth:denied"),
    *("device:allowed", "device:denied", "oauth:granted", "oauth:disconnected", "oauth:revoked"),
    *("oauth:token_revoked", "oauth:refresh_replayed", "oauth:code_replayed", "member:added", "member:role"),
    *("member:removed", "member:left", "invite_member", "resend_invitation", "revoke_invitation"),
    *("invitation:accepted", "invitation:declined", "project:approvals", "project:registry", "project:transferred"),
    *("delete_project", "enter_provider_key", "enter_email_account", "delete_email_account"),
    *("send_email_again", "token_source:added", "token_source:deleted", "end_users:rules_changed", "backup:made"),
    *("backup:restored", "root_secret:rotated", "source:secret"),
)
"""All acts in the log, besides the names of the tools that write, and ``allow:`` and ``deny:`` with that of one that
asked."""


@dataclass(frozen=True, slots=True)
class Act:
    """One act. ``email`` and ``name`` are those of today, ``None`` for accounts that are gone. ``operator``: who runs
    the house did it on the command line, and the account is the one it concerns.

    ``target``: what it was done to, mostly an id; ``subject``: the person that the id stands for; ``detail``: what it
    became. ``address``, ``user_agent`` and ``client`` (the name of the key, application or pages): from where, as far
    as it was known.
    """

    id: UUID
    at: datetime
    user_id: UUID
    email: str | None
    name: str | None
    action: str
    target: str | None
    detail: str | None
    address: str | None
    user_agent: str | None
    client: str | None
    run_id: UUID | None
    project_id: UUID | None
    operator: bool
    subject: str | None

    @property
    def who(self) -> str:
        """For people."""
        if self.operator:
            return "The operator"
        if self.client == "this house":
            return "This house"
        if self.action.startswith("sign_in:"):
            return "Somebody who was not signed in"
        return self.name or self.email or "An account that is gone"


@traced
async def of_project(
    connection: Connection, *, action: str | None, by: UUID | None, before: UUID | None, limit: int
) -> list[Act]:
    """The newest acts in the transaction's project first; nothing to who is neither owner nor admin."""
    rows = await connection.fetch("SELECT * FROM read_audit($1, $2, $3, $4)", action, by, before, limit)
    return [_act(row) for row in rows]


@traced
async def of_person(connection: Connection, *, action: str | None, before: UUID | None, limit: int) -> list[Act]:
    """The newest acts of the person behind the session first, in whatever project."""
    rows = await connection.fetch("SELECT * FROM read_own_audit($1, $2, $3)", action, before, limit)
    return [_act(row) for row in rows]


@traced
async def may_read(connection: Connection, project_id: UUID) -> bool:
    """Whether the caller is owner or admin of the transaction's project."""
    return bool(await connection.fetchval("SELECT overseen_project() = $1", project_id))


def _act(row: Any) -> Act:
    return Act(**row)
