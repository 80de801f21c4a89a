"""Accounts as the operator lists, adds, disables and deletes them: on the owner's connection, from the command line.

What is ended here has ended on every process: credentials and accounts tell their revocation to all that remember them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from db import house_mails, operator_acts
from db.accounts import Owner, create_user
from db.errors import AppError
from db.ids import uuid7


@dataclass(frozen=True, slots=True)
class Account:
    """``credentials``: how many sessions, grants and keys are live; ``projects``: of how many they are a member."""

    id: UUID
    email: str
    name: str
    created_at: datetime
    disabled_at: datetime | None
    admin_at: datetime | None
    projects: int
    credentials: int


async def page(owner: Owner) -> list[Account]:
    """Owner. All accounts, the oldest first, with how many projects and live credentials each has."""
    rows = await owner.fetch(
        "SELECT u.id, u.email, u.name, u.created_at, u.disabled_at, u.admin_at,"
        " (SELECT count(*) FROM project_members m WHERE m.user_id = u.id) AS projects,"
        " (SELECT count(*) FROM credentials c WHERE c.user_id = u.id AND c.revoked_at IS NULL AND u.disabled_at IS NULL"
        "   AND (c.expires_at IS NULL OR c.expires_at > now())) AS credentials"
        " FROM users u ORDER BY u.created_at, u.id"
    )
    return [Account(**dict(row.items())) for row in rows]


async def add(owner: Owner, email: str, name: str) -> UUID:
    """An account as its first sign-up would make it: with a project of its own, the welcome and the audience."""
    async with owner.transaction():
        user_id = await create_user(owner, email, name)
        await owner.execute(
            "INSERT INTO projects (id, name, created_by) VALUES ($1, 'Personal project', $2)", uuid7(), user_id
        )
        await house_mails.queue_welcome(owner, user_id)
        await operator_acts.note(owner, "account:created", str(user_id), about=user_id)
    return user_id


async def disable(owner: Owner, user_id: UUID) -> int:
    """End every session, grant, token and key, and let none begin; answers how many were live. Safe to repeat."""
    async with owner.transaction():
        ended = int(await owner.fetchval("SELECT end_account($1)", user_id))
        await operator_acts.note(owner, "account:disabled", str(user_id), about=user_id)
    return ended


async def enable(owner: Owner, user_id: UUID) -> None:
    """Let the account sign in again. What was ended stays so."""
    async with owner.transaction():
        await owner.execute("UPDATE users SET disabled_at = NULL WHERE id = $1", user_id)
        await operator_acts.note(owner, "account:enabled", str(user_id), about=user_id)


async def delete(owner: Owner, user_id: UUID, *, with_projects: bool) -> list[str]:
    """Delete the account, and with it every session, grant, token and key; answers the names of deleted projects.

    Projects that have other members stay: where the account was the only owner, the member of the highest role, and
    of these the oldest, becomes one. Raises ``AppError`` when projects would go along and ``with_projects`` does not
    say so.
    """
    async with owner.transaction():
        await owner.execute("SELECT FROM users WHERE id = $1 FOR UPDATE", user_id)
        alone = await owner.fetch(
            "SELECT p.id, p.name FROM projects p WHERE (p.created_by = $1 OR EXISTS (SELECT FROM project_members m"
            "  WHERE m.project_id = p.id AND m.user_id = $1)) AND NOT EXISTS (SELECT FROM project_members m"
            "  WHERE m.project_id = p.id AND m.user_id <> $1) ORDER BY p.id FOR UPDATE",
            user_id,
        )
        if alone and not with_projects:
            names = ", ".join(row["name"] for row in alone)
            raise AppError(
                "projects_left",
                409,
                f"Nobody else is in {names}: these projects would be deleted.",
                "Say so with --with-projects, or make somebody else a member first.",
            )
        for row in alone:
            await operator_acts.note(owner, "delete_project", str(row["id"]), about=user_id, project_id=row["id"])
        await owner.execute("DELETE FROM projects WHERE id = ANY ($1::uuid[])", [row["id"] for row in alone])
        await _hand_over(owner, user_id)
        await owner.execute("SELECT forget_unfinished($1)", user_id)
        await operator_acts.note(owner, "account:deleted", str(user_id), about=user_id)
        await owner.execute("DELETE FROM users WHERE id = $1", user_id)
    return [row["name"] for row in alone]


async def set_admin(owner: Owner, user_id: UUID, *, admin: bool) -> None:
    """Name an administrator of the whole instance, or name them no more."""
    async with owner.transaction():
        await owner.execute(
            "UPDATE users SET admin_at = CASE WHEN $2 THEN coalesce(admin_at, now()) END WHERE id = $1", user_id, admin
        )
        await operator_acts.note(owner, "admin:granted" if admin else "admin:revoked", str(user_id), about=user_id)


async def _hand_over(owner: Owner, user_id: UUID) -> None:
    """Every project that stays has an owner who stays, and was created by one."""
    await owner.execute(
        "UPDATE project_members m SET role = 'owner' FROM (SELECT DISTINCT ON (o.project_id) o.project_id, o.user_id"
        "  FROM project_members o JOIN project_members mine ON mine.project_id = o.project_id AND mine.user_id = $1"
        "  WHERE o.user_id <> $1"
        "  ORDER BY o.project_id, array_position(ARRAY['owner', 'admin', 'member', 'viewer'], o.role), o.created_at"
        " ) heir WHERE m.project_id = heir.project_id AND m.user_id = heir.user_id AND m.role <> 'owner'"
        " AND EXISTS (SELECT FROM project_members l WHERE l.project_id = m.project_id AND l.user_id = $1"
        "  AND l.role = 'owner')",
        user_id,
    )
    await owner.execute(
        "UPDATE projects p SET created_by = (SELECT m.user_id FROM project_members m WHERE m.project_id = p.id"
        "  AND m.user_id <> $1 ORDER BY m.role = 'owner' DESC, m.created_at, m.user_id LIMIT 1)"
        " WHERE p.created_by = $1",
        user_id,
    )
