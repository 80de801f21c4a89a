"""What the pages of one project have in common: the project, and what the person may do in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal
from uuid import UUID

from db import projects
from db.database import Database
from db.errors import not_found
from db.principal import Principal

if TYPE_CHECKING:
    import asyncpg


@dataclass(frozen=True, slots=True)
class Place:
    """A project as one of its members sees it. ``project``: its row, with all settings."""

    project: asyncpg.Record
    role: Literal["owner", "admin", "member", "viewer"]

    @property
    def administered(self) -> bool:
        return self.role in ("owner", "admin")


async def place(database: Database, person: Principal, project_id: UUID) -> Place:
    """Raises ``AppError`` 404 to who is no member of it."""
    async with database.transaction(person, project_id, read_only=True) as connection:
        project = await projects.fetch(connection, project_id)
        mine = await projects.page(connection, person.user_id, only=project_id, before=None, limit=1)
    if project is None or not mine:
        raise not_found("project", "Ask whoever sent you here for a new address, or look among your projects.")
    return Place(project, mine[0]["role"])
