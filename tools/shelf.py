"""Which resources there are for a caller, page by page: for each of its projects, those that every project has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from db import projects
from db.principal import Principal
from tools.catalog import Catalog
from tools.contract import ResourceSpec
from tools.pages import from_cursor, to_cursor
from tools.ports import Services

PROJECTS_A_PAGE: Final = 50


@dataclass(frozen=True, slots=True)
class Shelved:
    """A resource that can be read now. ``title`` is what people call it; they chose it themselves."""

    spec: ResourceSpec
    uri: str
    name: str
    title: str


async def shelved(
    services: Services, catalog: Catalog, caller: Principal, cursor: str | None
) -> tuple[list[Shelved], str | None]:
    """One page of what a caller (already narrowed) can read, newest project first, and the cursor of the next.

    Raises ``AppError`` ``invalid_cursor``.
    """
    before = from_cursor(cursor)
    visible, bound = catalog.visible_resources(caller), caller.project_id
    specs = [spec for spec in visible if spec.listed]
    if not specs:
        # Those of no list can only be shown to who is in their project already.
        return [Shelved(spec, spec.uri(bound), spec.name, spec.title) for spec in visible if bound is not None], None
    async with services.database.transaction(caller) as connection:
        rows = await projects.page(
            connection, caller.user_id, only=caller.project_id, before=before, limit=PROJECTS_A_PAGE + 1
        )
    shown = rows[:PROJECTS_A_PAGE]
    found = [
        Shelved(spec, spec.uri(row["id"]), f"{spec.name}-{row['id']}", row["name"]) for row in shown for spec in specs
    ]
    return found, to_cursor(shown[-1]["id"]) if len(rows) > len(shown) else None
