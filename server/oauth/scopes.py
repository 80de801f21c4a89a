"""Scopes as clients ask for them, and as people read them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from db.errors import AppError
from db.scopes import ALL_SCOPES, Scope

NO_RIGHTS: Final = frozenset({"offline_access"})
"""Asked for out of habit by clients that want a refresh token, which they get without it."""
_WORDS: Final = {
    Scope.agents_read: "See your agents and how they are set up",
    Scope.agents_write: "Create, change and delete agents",
    Scope.projects_read: "See your projects and their settings",
    Scope.projects_write: "Create, change and delete projects",
    Scope.runs_read: "Read what agents were asked and what they answered",
    Scope.runs_write: "Start and stop runs of agents",
    Scope.storage_read: "See and download files",
    Scope.storage_write: "Upload and delete files",
    Scope.email_read: "Read the mail, contacts and mail templates of your projects",
    Scope.email_write: "Send mail from your projects, and change contacts and mail templates",
    Scope.registry_read: "See the components of your registry",
    Scope.registry_write: "Publish and withdraw components",
    Scope.email_read: "See mail that your projects have sent",
    Scope.email_write: "Send mail in the name of your projects",
    Scope.members_read: "See who works on your projects, and who is invited",
    Scope.members_write: "Invite and remove people, and change their roles",
    Scope.audit_read: "Read the audit log of projects that you oversee",
}


def parse(text: str | None) -> list[str] | None:
    """The scopes of a ``scope`` parameter (RFC 6749 3.3) in the order of ours; ``None`` when none are named. Raises
    ``AppError`` ``invalid_scope`` for one there is not."""
    named = set((text or "").split(" ")) - {""} - NO_RIGHTS
    if not named:
        return None
    unknown = sorted(named - ALL_SCOPES)
    if unknown:
        shown = ", ".join(unknown)[:80]
        raise AppError(
            "invalid_scope", 400, f"There is no scope {shown}.", f"Scopes are {', '.join(in_order(ALL_SCOPES))}."
        )
    return in_order(named)


def in_order(scopes: Iterable[str]) -> list[str]:
    """Families in the order they came to be, what reads before what writes."""
    known = list(Scope)
    return sorted(scopes, key=lambda scope: known.index(Scope(scope)))


def words(scope: str) -> str:
    """What a scope allows, for people."""
    family, _, verb = scope.partition(":")
    return _WORDS.get(Scope(scope)) or f"{'Change' if verb == 'write' else 'See'} {family}"
