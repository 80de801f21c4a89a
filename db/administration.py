"""Accounts as the administrators of the instance see and switch them, on the pages.

The database asks who it is that asks: to everybody else there are no accounts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from db.errors import not_found
from db.users import Account

if TYPE_CHECKING:
    from db.database import Connection


async def is_admin(connection: Connection) -> bool:
    """Whether the person of this transaction administers the instance."""
    return bool(await connection.fetchval("SELECT acting_admin() IS NOT NULL"))


async def page(connection: Connection, *, search: str, before: UUID | None, limit: int) -> list[Account]:
    """The newest first."""
    rows = await connection.fetch("SELECT * FROM admin_accounts($1, $2, $3)", search, before, limit)
    return [Account(**dict(row.items())) for row in rows]


async def switch(connection: Connection, user_id: UUID, *, disable: bool) -> None:
    """Disable an account, which ends all that it holds, or let it sign in again. Raises ``AppError`` for one that is
    not there, and for one's own."""
    if not await connection.fetchval("SELECT admin_switch_account($1, $2)", user_id, disable):
        raise not_found("user", "Open the list of accounts again; nobody disables their own.")
