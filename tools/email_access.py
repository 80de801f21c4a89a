"""Who may do anything with the mail of a project: asked of the database, and said as everywhere else."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from db import emails
from db.errors import needs_member, not_found

if TYPE_CHECKING:
    from db.database import Connection


async def require_readable(connection: Connection, project_id: UUID) -> emails.Place:
    """Raises ``AppError`` unless the caller sees the project."""
    place = await emails.place(connection, project_id)
    if place.writable is None:
        raise not_found("project")
    return place


async def require_writable(connection: Connection, project_id: UUID) -> emails.Place:
    """Raises ``AppError`` unless the caller may send from the project and change what is there."""
    place = await require_readable(connection, project_id)
    if not place.writable:
        raise needs_member()
    return place
