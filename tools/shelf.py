"""Which resources there are for a caller, page by page: for each of its projects, newest first, those that every
project has, then those of which it has several."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from db import projects
from db.principal import Principal
from tools.catalog import Catalog
from tools.contract import PROJECT
from tools.pages import from_cursor, from_place_cursor, to_cursor, to_place_cursor
from tools.ports import Services
from tools.resources import ResourceSpec

PAGE: Final = 50


@dataclass(frozen=True, slots=True)
class Shelved:
    """A resource that can be read now. ``title`` is what people call it; they chose it themselves."""

    spec: ResourceSpec
    uri: str
    name: str
    title: str
    mime_type: str


async def shelved(
    services: Services, catalog: Catalog, caller: Principal, cursor: str | None
) -> tuple[list[Shelved], str | None]:
    """One page of what a caller (already narrowed) can read, and the cursor of the next.

    Raises ``AppError`` ``invalid_cursor``.
    """
    visible, bound = catalog.visible_resources(caller), caller.project_id
    singles = [spec for spec in visible if spec.listed]
    several = [spec for spec in visible if spec.members is not None]
    place = from_place_cursor(cursor)
    before = place[0] if place is not None else from_cursor(cursor)
    if not singles and not several:
        # Those of no list can only be shown to who is in their project already.
        found = [spec for spec in visible if bound is not None and spec.variables == (PROJECT,)]
        return [_single(spec, bound, spec.title, spec.name) for spec in found if bound is not None], None
    shown: list[Shelved] = []
    if place is not None and several:
        cursor = await _put_members(services, several, caller, *place, shown)
        if cursor is not None:
            return shown, cursor
    async with services.database.transaction(caller) as connection:
        rows = await projects.page(connection, caller.user_id, only=bound, before=before, limit=PAGE + 1)
        ids = [row["id"] for row in rows]
        holding = [await spec.held_by(connection, ids) for spec in several if spec.held_by is not None]
    for number, row in enumerate(rows):
        if len(shown) >= PAGE:
            return shown, to_cursor(rows[number - 1]["id"] if number else before or row["id"])
        shown += [_single(spec, row["id"], row["name"], f"{spec.name}-{row['id']}") for spec in singles]
        if any(row["id"] in held for held in holding):
            cursor = await _put_members(services, several, caller, row["id"], 0, None, shown)
            if cursor is not None:
                return shown, cursor
    return shown, None


async def _put_members(
    services: Services,
    specs: list[ResourceSpec],
    caller: Principal,
    project_id: UUID,
    first: int,
    after: str | None,
    shown: list[Shelved],
) -> str | None:
    """Put on the shelf what the project has of each kind, from the ``first`` on; the cursor of what did not fit."""
    for number, spec in enumerate(specs[first:], first):
        room = PAGE - len(shown)
        if room <= 0:
            return to_place_cursor(project_id, number, after)
        members = await spec.members(services, caller, project_id, after, room + 1) if spec.members else []
        shown += [
            Shelved(spec, spec.uri(project_id, **one.values), _name(spec, one.values), one.title, one.mime_type)
            for one in members[:room]
        ]
        if len(members) > room:
            return to_place_cursor(project_id, number, members[room - 1].cursor)
        after = None
    return None


def _single(spec: ResourceSpec, project_id: UUID, title: str, name: str) -> Shelved:
    return Shelved(spec, spec.uri(project_id), name, title, spec.mime_type)


def _name(spec: ResourceSpec, values: dict[str, Any]) -> str:
    return "-".join((spec.name, *map(str, values.values())))
