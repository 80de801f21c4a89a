"""An agent without a mind: it mends a refused request by what the error says to programs, and by nothing else.

It knows what its user wants (:class:`Wish`), the tools it was shown, and the vocabulary of ``db.errors.Details``. It
knows neither what was wrong nor what the tools do. What only a person can change, it asks for and stops.
"""

from __future__ import annotations

import copy
import difflib
import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

ROUNDS = 2
"""Requests the agent may make after the refused one."""


@dataclass
class Request:
    """One request to the server. ``name``: of a tool or prompt, or the URI of a resource."""

    method: str
    name: str
    arguments: dict[str, Any] = field(default_factory=dict)
    key: str | None = None


@dataclass
class Wish:
    """What the user said: values by the name of the argument, and which project was meant, by its name."""

    said: dict[str, Any] = field(default_factory=dict)
    project: str = ""


@dataclass
class Outcome:
    """``answer``: what was wanted came. ``asked``: the agent stopped to ask for this."""

    requests: int
    answer: dict[str, Any] | None = None
    asked: dict[str, Any] | None = None
    error: dict[str, Any] | None = None


Send = Callable[[Request], Awaitable[tuple[dict[str, Any] | None, dict[str, Any] | None]]]
"""Gives the result, or the error as the server describes it to programs."""


class Agent:
    def __init__(self, send: Send, tools: dict[str, dict[str, Any]]) -> None:
        self.send = send
        self.tools = tools

    async def carry_out(self, first: Request, wish: Wish) -> Outcome:
        request, spent = copy.deepcopy(first), 0
        answer, error = await self.send(request)
        while error is not None and spent < ROUNDS:
            wants = error.get("ask") or ({"approval": error["approval"]["url"]} if "approval" in error else None)
            if wants is not None:
                return Outcome(spent, asked=wants, error=error)
            self._reword(request, error)
            open_places = self._mend(request, error, wish)
            if "next_tool" in error and (open_places or not error.get("arguments")):
                spent += 1
                found, worse = await self.send(self._asking(error["next_tool"], request))
                if worse is not None:
                    error = worse
                    continue
                self._fill(request, error, open_places, _id_of(found or {}, wish.project))
            if spent == ROUNDS:
                break
            spent += 1
            answer, error = await self.send(request)
        return Outcome(spent, answer=answer, error=error)

    def _asking(self, tool: str, request: Request) -> Request:
        """A call of the tool that has what was missing, with what it must be given and the refused call has."""
        needed = self.tools.get(tool, {}).get("required", [])
        return Request(
            "tools/call", tool, {name: request.arguments[name] for name in needed if name in request.arguments}
        )

    def _reword(self, request: Request, error: dict[str, Any]) -> None:
        request.name = error.get("did_you_mean", request.name)
        if error.get("idempotency_key") == "new":
            request.key = str(uuid4())
        if "max_bytes" in error:
            longest = max(request.arguments, key=lambda name: len(json.dumps(request.arguments[name])))
            request.arguments[longest] = request.arguments[longest][: error["max_bytes"] // 2]

    def _mend(self, request: Request, error: dict[str, Any], wish: Wish) -> list[str]:
        """Change the arguments as told; gives the places that an id from another tool has to fill."""
        open_places: list[str] = []
        order = {"rename": 0, "drop": 1, "change": 2, "give": 3}
        for repair in sorted(error.get("arguments", ()), key=lambda one: order[one["do"]]):
            for name in [repair["at"]] if "at" in repair else repair.get("any_of", list(request.arguments)):
                holder, last = _place(request.arguments, name)
                schema = repair.get("schema", {})
                if repair["do"] == "rename":
                    to_holder, to = _place(request.arguments, repair["to"])
                    to_holder[to] = holder.pop(last)
                elif repair["do"] == "drop":
                    holder.pop(last, None)
                elif repair["do"] == "give" and last in holder:
                    continue
                elif schema.get("format") == "uuid" and "next_tool" in error:
                    open_places.append(name)
                elif repair["do"] == "change":
                    value = _without(_at(holder, last), repair.get("without", []))
                    self._put(request, name, value, schema, wish)
                elif last in wish.said:
                    holder[last] = wish.said[last]
        return open_places

    def _put(self, request: Request, name: str, value: Any, schema: dict[str, Any], wish: Wish) -> None:
        holder, last = _place(request.arguments, name)
        refused = _at(holder, last)
        fitting = fitted(value, schema)
        if last in wish.said and (fitting is None or fitting == refused):
            fitting = wish.said[last]
        if fitting is not None:
            holder[last] = fitting
        elif isinstance(holder, list):
            del holder[last]
        elif last not in self.tools.get(request.name, {}).get("required", []):
            holder.pop(last, None)

    def _fill(self, request: Request, error: dict[str, Any], places: list[str], found: str | None) -> None:
        if found is None:
            return
        if "uri_templates" in error:
            request.name = re.sub(r"\{\w+\}", found, error["uri_templates"][0])
            return
        for place in places or _ids(self.tools.get(request.name, {}), request.arguments):
            holder, last = _place(request.arguments, place)
            holder[last] = found


def fitted(value: Any, schema: dict[str, Any]) -> Any:
    """The value, bent to what the schema allows; ``None`` where that would be inventing one."""
    if "anyOf" in schema:
        bent_to_each = [fitted(value, variant) for variant in reversed(schema["anyOf"])]
        return next((bent for bent in bent_to_each if bent is not None), None)
    if "enum" in schema:
        near = difflib.get_close_matches(str(value).lower(), [str(one) for one in schema["enum"]], n=1, cutoff=0.5)
        return near[0] if near else None
    kind = schema.get("type")
    if kind == "array":
        items = value if isinstance(value, list) else [value]
        bent = [fitted(item, schema.get("items", {})) for item in items]
        return None if None in bent else bent
    if kind in ("integer", "number"):
        return _number(value, schema)
    if kind == "string":
        text = str(value) if isinstance(value, str | int | float) else ""
        text = text[: schema.get("maxLength", len(text))]
        wanted = schema.get("pattern")
        if len(text) < schema.get("minLength", 0) or (wanted and not re.search(wanted, text)):
            return None
        return text
    return None if kind in ("boolean", "object", "null") else value


def _number(value: Any, schema: dict[str, Any]) -> int | float | None:
    while isinstance(value, list) and len(value) == 1:
        [value] = value
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    number = min(max(number, schema.get("minimum", number)), schema.get("maximum", number))
    return int(number) if schema["type"] == "integer" else number


def _place(arguments: dict[str, Any], at: str) -> tuple[Any, Any]:
    """The object or list that holds a place, and the key in it."""
    *way, last = at.split(".")
    holder: Any = arguments
    for step in way:
        holder = holder[int(step)] if isinstance(holder, list) else holder.setdefault(step, {})
    return holder, int(last) if isinstance(holder, list) else last


def _at(holder: Any, last: Any) -> Any:
    return holder[last] if isinstance(holder, list) else holder.get(last)


def _without(value: Any, parts: list[str]) -> Any:
    if isinstance(value, list):
        return [item for item in value if item not in parts]
    for part in parts:
        value = value.replace(part, "") if isinstance(value, str) else value
    return value


def _id_of(result: dict[str, Any], name: str) -> str | None:
    """The id of the row with this name, or of the only one, in an answer with one list."""
    rows = [row for field in result.values() if isinstance(field, list) for row in field]
    meant = [row["id"] for row in rows if row.get("name") == name] or [row["id"] for row in rows]
    return meant[0] if meant else None


def _ids(schema: dict[str, Any], arguments: dict[str, Any]) -> list[str]:
    properties = schema.get("properties", {})
    return [name for name in arguments if properties.get(name, {}).get("format") == "uuid"]
