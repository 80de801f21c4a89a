"""Completion of the arguments of prompts and resource templates, while a person types: only what the caller can see."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final
from uuid import UUID

from db import project_names
from db.errors import AppError, invalid
from db.principal import Principal
from tools import contract, prompts
from tools.catalog import Catalog
from tools.ports import Services

MOST: Final = 100
"""Values in one answer, as the protocol has it."""
LONGEST: Final = 200
NOTHING: Final[Mapping[str, str]] = MappingProxyType({})


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
    services: Services,
    catalog: Catalog,
    caller: Principal,
    uri_template: str,
    argument: str,
    typed: str,
    known: Mapping[str, str] = NOTHING,
) -> Completion:
    """Values for a variable of a resource template the caller sees: ids of projects by what was typed of an id or a
    name; for what is in a project, those of the project that is ``known`` already or that the caller is bound to."""
    spec = next((one for one in catalog.visible_resources(caller) if one.uri_template == uri_template), None)
    if spec is None:
        raise AppError(
            "resource_not_found", 404, "There is no such resource template.", "List the templates and use one of them."
        )
    if argument == contract.PROJECT:
        found, more = await _projects(services, caller, typed)
        return Completion([project_id for project_id, _name in found], more)
    completes = spec.completes.get(argument)
    if completes is None:
        raise _no_argument(argument)
    project_id = caller.project_id or _uuid(known.get(contract.PROJECT, ""))
    if project_id is None or caller.project_id not in (None, project_id) or len(typed) > LONGEST or "\x00" in typed:
        return Completion([])
    values = await completes(services, caller, project_id, typed, MOST + 1, known)
    return Completion(values[:MOST], len(values) > MOST)


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


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
