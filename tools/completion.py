"""Completion of the arguments of prompts and resource templates, while a person types: only the caller's projects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from db import project_names
from db.errors import AppError, invalid
from db.principal import Principal
from tools import contract, prompts
from tools.catalog import Catalog
from tools.ports import Services

MOST: Final = 100
"""Values in one answer, as the protocol has it."""
LONGEST: Final = 200


@dataclass(frozen=True, slots=True)
class Completion:
    values: list[str]
    has_more: bool = False


async def complete_prompt(
    services: Services,
    catalog: Catalog,
    caller: Principal,
    families: frozenset[str] | None,
    name: str,
    argument: str,
    typed: str,
) -> Completion:
    """Values for an argument of a prompt the caller sees. A project is completed to its name, when that is what was
    typed and only one has it, else to its id."""
    spec = catalog.prompt(caller, name, families)
    if argument not in (taken.name for taken in spec.arguments_of(caller)):
        raise _no_argument(argument)
    if argument != prompts.PROJECT:
        return Completion([])
    found, more = await _projects(services, caller, typed)
    names = [project.lower() for _id, project in found]
    values = [
        project if project.lower().startswith(typed.lower()) and names.count(project.lower()) == 1 else project_id
        for project_id, project in found
    ]
    return Completion(values, more)


async def complete_template(
    services: Services, catalog: Catalog, caller: Principal, uri_template: str, argument: str, typed: str
) -> Completion:
    """Ids for the variable of a resource template the caller sees, by what was typed of the project's id or name."""
    if uri_template not in (spec.uri_template for spec in catalog.visible_resources(caller)):
        raise AppError(
            "resource_not_found", 404, "There is no such resource template.", "List the templates and use one of them."
        )
    if argument != contract.PROJECT:
        raise _no_argument(argument)
    found, more = await _projects(services, caller, typed)
    return Completion([project_id for project_id, _name in found], more)


async def _projects(services: Services, caller: Principal, typed: str) -> tuple[list[tuple[str, str]], bool]:
    """Ids and names, and whether there are more than may be shown."""
    if len(typed) > LONGEST or "\x00" in typed:
        return [], False
    async with services.database.transaction(caller) as connection:
        rows = await project_names.beginning_with(
            connection, caller.user_id, only=caller.project_id, typed=typed, limit=MOST + 1
        )
    return [(str(row["id"]), row["name"]) for row in rows[:MOST]], len(rows) > MOST


def _no_argument(name: str) -> AppError:
    return invalid(f"There is no argument '{name[:80]}' to complete.", "Use one of those the list shows.")
