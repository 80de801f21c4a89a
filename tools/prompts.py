"""Prompts: workflows that a person starts by name, and that a model then carries out with the tools it has.

A prompt names the tools it uses, and is offered to callers who may use all of them: nobody is led to a closed door.
Its own words are ours. What others wrote comes as an attachment, fenced like any result.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, get_type_hints
from uuid import UUID

from db import project_names
from db.errors import AppError, invalid, not_found
from db.principal import Principal
from tools import mistakes
from tools.contract import Call, ToolSpec
from tools.ports import Services
from tools.resources import ResourceSpec
from tools.result import USUAL_BYTES, fitted

PROJECT: Final = "project"
"""The argument that is a project, by its name or id; a connection bound to a project has no such argument."""

LONGEST_ARGUMENT: Final = 4_000


@dataclass(frozen=True, slots=True)
class Attachment:
    """A resource that goes along with what a prompt says: ``value`` is what reading ``spec`` gives."""

    spec: ResourceSpec
    project_id: UUID
    value: Any


Said: TypeAlias = "str | Attachment"


@dataclass(frozen=True, slots=True)
class PromptArgument:
    name: str
    title: str
    description: str
    required: bool


@dataclass(frozen=True, slots=True)
class PromptSpec:
    """A prompt as a value. ``uses``: the tools its workflow cannot do without."""

    name: str
    title: str
    description: str
    uses: tuple[ToolSpec, ...]
    arguments: tuple[PromptArgument, ...]
    function: Callable[..., Awaitable[list[Said]]]

    def arguments_of(self, principal: Principal) -> tuple[PromptArgument, ...]:
        """Those the caller gives; a binding takes the project away."""
        if principal.project_id is None:
            return self.arguments
        return tuple(argument for argument in self.arguments if argument.name != PROJECT)


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a prompt as it leaves: a text, or with ``uri`` the JSON of a resource."""

    text: str
    uri: str | None = None
    untrusted: tuple[str, ...] = ()


def prompt(*uses: ToolSpec) -> Callable[[Callable[..., Awaitable[list[Said]]]], PromptSpec]:
    """Make a prompt of ``async (call, **arguments)``. Arguments are texts, each with a description
    (``Annotated[str, "..."]``); one with a default may be left out. ``project`` arrives as ``call.project_id``.
    """

    def decorate(function: Callable[..., Awaitable[list[Said]]]) -> PromptSpec:
        name = function.__name__
        description = inspect.getdoc(function)
        if not description or not uses:
            raise TypeError(f"{name}: a prompt needs a docstring and the tools it uses")
        hints = get_type_hints(function, include_extras=True)
        arguments = [
            PromptArgument(
                parameter.name,
                _title(parameter.name),
                hints[parameter.name].__metadata__[0],
                parameter.default is inspect.Parameter.empty,
            )
            for parameter in list(inspect.signature(function).parameters.values())[1:]
        ]
        return PromptSpec(name, _title(name), description, uses, tuple(arguments), function)

    return decorate


async def spoken(services: Services, spec: PromptSpec, caller: Principal, given: Mapping[str, str]) -> list[Part]:
    """What ``spec`` says to a caller (already narrowed) with these arguments. Raises ``AppError``."""
    taken = {argument.name: argument for argument in spec.arguments_of(caller)}
    missing = [name for name, argument in taken.items() if argument.required and not given.get(name, "").strip()]
    if missing or given.keys() - taken.keys():
        raise mistakes.wrong_texts(spec.name, sorted(given), list(taken), missing)
    for name, text in given.items():
        if len(text) > LONGEST_ARGUMENT or "\x00" in text:
            raise invalid(f"{name} is longer than {LONGEST_ARGUMENT} characters, or no text.", "Say it shorter.")
    project_id = caller.project_id
    values = dict(given)
    if any(argument.name == PROJECT for argument in spec.arguments):
        if project_id is None:
            project_id = await _meant(services, caller, given[PROJECT].strip())
        values[PROJECT] = str(project_id)
    said = await spec.function(Call(caller, services, project_id), **values)
    return [_part(one) for one in said]


def _part(said: Said) -> Part:
    if isinstance(said, str):
        return Part(said)
    spec = said.spec
    json = fitted(spec.output.dump_json(said.value), USUAL_BYTES, spec.untrusted)
    return Part(json.decode(), spec.uri(said.project_id), spec.untrusted)


async def _meant(services: Services, caller: Principal, said: str) -> UUID:
    async with services.database.transaction(caller) as connection:
        found = await project_names.called(connection, caller.user_id, only=caller.project_id, said=said)
    if not found:
        raise not_found(
            "project",
            "Give the id or the whole name of one of your projects; list_projects shows them.",
            {"next_tool": "list_projects"},
        )
    if len(found) > 1 and str(found[0]["id"]) != said.lower():
        raise AppError(
            "ambiguous_project",
            409,
            "Several projects have this name.",
            "Give its id, as list_projects shows it.",
            details={"next_tool": "list_projects"},
        )
    project_id: UUID = found[0]["id"]
    return project_id


def _title(name: str) -> str:
    return name.replace("_", " ").capitalize()
