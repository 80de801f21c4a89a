"""The components that a client lets the agent show: its own, and those of the project's registry that it names.

``forwardedProps.innkeeper.components`` of the input: ``{name, description, propsSchema, stateSchema?}``, or
``{"registry": "name@version"}``, which is read as the caller through MCP.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from agents import schemas
from agents.fixed_schema import Fixed
from agents.house_mcp import CallRefusedError, HouseMCP
from agents.json_values import MOST_OF_TOOLS, number_of
from agents.schemas import UnusableSchemaError
from db.errors import AppError, invalid
from db.principal import Principal

PLACE: Final = "forwardedProps.innkeeper.components"
PREFIX: Final = "show_component_"
MOST: Final = 50
LONGEST_DESCRIPTION: Final = 4_000
ANYTHING: Final = {"type": "object", "additionalProperties": True}
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,49}")
_WHOLE: Final = "item.json"


@dataclass(frozen=True, slots=True)
class Component:
    """What a model may show. Both schemas are JSON Schema 2020-12 of an object."""

    name: str
    description: str
    props_schema: Fixed
    state_schema: Mapping[str, Any] | None

    @property
    def tool(self) -> str:
        return f"{PREFIX}{self.name}"


@dataclass(frozen=True, slots=True)
class FromRegistry:
    """A component of the project's registry, at a version or within a range of versions."""

    name: str
    version: str | None


def parse(given: Any) -> list[Component | FromRegistry]:
    """Raises AppError ``component_invalid``."""
    if given is None:
        return []
    if not isinstance(given, list) or len(given) > MOST:
        raise _invalid(PLACE, f"it must be a list of at most {MOST}")
    with schemas.bounded(schemas.MOST_STEPS_OF_A_RUN):
        found = [_one(one, f"{PLACE}.{number}") for number, one in enumerate(given)]
    names = [one.name for one in found]
    for name in names:
        if names.count(name) > 1:
            raise _invalid(PLACE, f"there are two of the name '{name}'")
    return found


async def resolved(
    mcp: HouseMCP, reader: Principal, project_id: UUID, offers: Sequence[Component | FromRegistry]
) -> dict[str, Component]:
    """All of them, by the names of their tools. Raises AppError ``component_unavailable``, ``component_invalid``."""
    with schemas.bounded(schemas.MOST_STEPS_OF_A_RUN):
        read = await asyncio.gather(
            *(_read(mcp, reader, project_id, offer) for offer in offers if isinstance(offer, FromRegistry))
        )
    found = [*(offer for offer in offers if isinstance(offer, Component)), *read]
    if number_of([one.props_schema for one in found]) > MOST_OF_TOOLS:
        raise _invalid(PLACE, f"together their props may hold {MOST_OF_TOOLS} JSON values")
    return {one.tool: one for one in found}


def _one(given: Any, place: str) -> Component | FromRegistry:
    if not isinstance(given, dict):
        raise _invalid(place, "it must be an object")
    if "registry" in given:
        named, _, version = str(given["registry"]).partition("@")
        if not _NAME.fullmatch(named):
            raise _invalid(f"{place}.registry", "it must be like name@1.0.0, the name of 1 to 49 of A-Z a-z 0-9 _ -")
        return FromRegistry(named, version or None)
    name, description = given.get("name"), given.get("description", "")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise _invalid(f"{place}.name", "it must have 1 to 49 of A-Z a-z 0-9 _ -")
    if not isinstance(description, str) or len(description) > LONGEST_DESCRIPTION:
        raise _invalid(f"{place}.description", f"it must be a text of at most {LONGEST_DESCRIPTION} characters")
    return _component(name, description, given.get("propsSchema"), given.get("stateSchema"), place)


def _component(name: str, description: str, props: Any, state: Any, place: str) -> Component:
    checked: list[dict[str, Any] | None] = []
    for field, schema in (("propsSchema", props), ("stateSchema", state)):
        try:
            checked.append(None if schema is None else schemas.check(schema))
        except UnusableSchemaError as error:
            raise _invalid(f"{place}.{field}", str(error)) from None
    return Component(name, description, Fixed(checked[0] or ANYTHING), checked[1])


async def _read(mcp: HouseMCP, reader: Principal, project_id: UUID, offer: FromRegistry) -> Component:
    asked: dict[str, Any] = {"project_id": str(project_id), "name": offer.name}
    if offer.version:
        asked["version"] = offer.version
    found = await _get(mcp, reader, offer, asked)
    description = found["description"] or found["title"]
    props, state = found.get("props"), found.get("state")
    if {"props", "state"} & set(found["omitted"]):
        ours = (await _whole(mcp, reader, offer, {**asked, "version": found["version"]}))["meta"]["innkeeper"]
        props, state = ours.get("props"), ours.get("state")
    place = f"{PLACE}: {offer.name}@{found['version']}"
    return await schemas.in_turn(lambda: _component(offer.name, description[:LONGEST_DESCRIPTION], props, state, place))


async def _whole(mcp: HouseMCP, reader: Principal, offer: FromRegistry, asked: dict[str, Any]) -> Any:
    """An item whose schemas are too long for one answer, read in parts."""
    text = ""
    more: dict[str, Any] = {}
    while True:
        part = await _get(mcp, reader, offer, {**asked, "file": _WHOLE, **more})
        text += part["text"]
        if part["next_cursor"] is None:
            return json.loads(text)
        more = {"cursor": part["next_cursor"]}


async def _get(mcp: HouseMCP, reader: Principal, offer: FromRegistry, asked: dict[str, Any]) -> dict[str, Any]:
    try:
        # It only reads: no answer of it is kept under this key.
        result = await mcp.call_tool(reader, "get_component", asked, f"{reader.run_id}:component:{offer.name}")
    except CallRefusedError as refused:
        raise _unavailable(offer, refused.message) from None
    if result.get("isError") or "structuredContent" not in result:
        error = (result.get("_meta") or {}).get("innkeeper/error") or {}
        raise _unavailable(offer, str(error.get("message", "It cannot be read.")))
    answer: dict[str, Any] = result["structuredContent"]
    return answer


def _invalid(place: str, what: str) -> AppError:
    return invalid(
        f"{place} cannot be used: {what}.",
        'Like {"name": "Weather", "description": "...", "propsSchema": {"type": "object", ...}}, with JSON Schema'
        ' 2020-12, or {"registry": "weather@1.0.0"}.',
        "component_invalid",
    )


def _unavailable(offer: FromRegistry, why: str) -> AppError:
    return invalid(
        f"Component '{offer.name}' of the registry cannot be shown. {why}",
        "Name one that search_components finds, with a key that may read the registry.",
        "component_unavailable",
        {"next_tool": "search_components"},
    )
