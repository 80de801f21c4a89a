"""What is wrong with a call, said so that its caller can mend it: in words, and as repairs that need no understanding
of the words (:class:`db.errors.Details`). Values are never repeated: they may be anything.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any, Final

from pydantic_core import ErrorDetails

from db.errors import AppError, Details, Repair, invalid, not_found
from tools.contract import PROJECT, ToolSpec

MOST: Final = 5
MOST_LISTED: Final = 200
"""Faults of one call that are looked into: each takes a tenth of a millisecond."""
"""Faults told at once."""
NUL: Final = "\x00"
_ID: Final = "_id"
_LISTED_WITH: Final = {"run": "list_threads", "source": "list_registry_sources", "sync": "list_registry_syncs"}
"""What shows ids under another name than ``list_<rows>``."""
_WORD: Final = re.compile(r"(?:(?<=[a-z])(?=[A-Z])|[^A-Za-z0-9]+)()")
_UNSAID: Final = frozenset({"description", "title", "default", "properties", "required"})
"""What a repair leaves out of the schema of a value: it is for readers, or long, and the list of tools has it."""


def nearest(name: str, names: Iterable[str]) -> str | None:
    """The one of ``names`` that a misspelt one was probably meant to be, whatever the order of its words and however
    they are joined."""
    spelled = {_words(one): one for one in names}
    found = get_close_matches(_words(name[:80]), list(spelled), n=1, cutoff=0.6)
    return spelled[found[0]] if found else None


def unknown_tool(name: str, tools: Iterable[str]) -> AppError:
    """There is no such tool; ``tools`` are those the caller may call."""
    meant = nearest(name, tools)
    way_on = f"Did you mean {meant}?" if meant else "List the tools and use one of them."
    details: Details = {"did_you_mean": meant} if meant else {}
    return AppError("unknown_tool", 404, f"There is no tool '{name[:80]}'.", way_on, details=details)


def unknown_prompt(name: str, prompts: Iterable[str]) -> AppError:
    """There is no such prompt; ``prompts`` are those the caller sees."""
    meant = nearest(name, prompts)
    way_on = f"Did you mean {meant}?" if meant else "List the prompts and use one of them."
    details: Details = {"did_you_mean": meant} if meant else {}
    return AppError("unknown_prompt", 404, f"There is no prompt '{name[:80]}' here.", way_on, details=details)


def wrong_texts(prompt: str, given: Iterable[str], taken: list[str], missing: list[str]) -> AppError:
    """What a prompt was given and does not take, and what it misses."""
    repairs: list[Repair] = [{"do": "give", "at": name} for name in missing]
    repairs += [_not_taken(name, [one for one in taken if one not in given])[1] for name in given if name not in taken]
    unknown = ", ".join(name for name in given if name not in taken)[:80]
    fault = f"needs {', '.join(missing)}" if missing else f"does not take {unknown}"
    return invalid(
        f"The prompt {prompt} {fault}.",
        f"It takes: {', '.join(taken) or 'nothing'}.",
        details={"arguments": repairs[:MOST]},
    )


def wrong_arguments(spec: ToolSpec, given: Mapping[str, Any], errors: list[ErrorDetails], *, bound: bool) -> AppError:
    """Each fault of the arguments with its place. ``bound``: the connection fills the project in."""
    told: dict[str, tuple[str, Repair]] = {}
    taken = [name for name in spec.input_model.model_fields if not (bound and name == PROJECT)]
    for error in errors:
        sentence, repair = _fault(spec.input_schema, given, error, taken)
        told.setdefault(repair["at"], (sentence, repair))
    faults = list(told.values())[:MOST]
    details: Details = {"arguments": [repair for _sentence, repair in faults]}
    hint = f"{spec.name} takes: {', '.join(taken) or 'nothing'}."
    lister = next((lister_of(at) for at in told if _names_a_row(spec.input_schema, at)), None)
    if lister is not None:
        details["next_tool"] = lister
        hint += f" {lister} shows the ids there are."
    said = "; ".join(sentence for sentence, _repair in faults)
    return invalid(f"Invalid arguments for {spec.name}: {said}.", hint, details=details)


def too_many(spec: ToolSpec, number: int) -> AppError:
    """Arguments with so many faults that nobody looks into them."""
    return invalid(
        f"Invalid arguments for {spec.name}: {number} things of them are wrong.",
        f"{spec.name} takes: {', '.join(spec.input_model.model_fields) or 'nothing'}.",
    )


def no_such_resource(uri_templates: list[str]) -> AppError:
    """Nothing to read at an address; ``uri_templates`` are those the caller may read."""
    shown = ", ".join(uri_templates)
    details: Details = {"uri_templates": uri_templates}
    if any(f"{{{PROJECT}}}" in template for template in uri_templates):
        details["next_tool"] = "list_projects"
        return not_found("resource", f"Use an id that list_projects shows in one of: {shown}.", details)
    return not_found("resource", "This key reads no resources: use one with a scope that reads.", details)


def another_project(spec: ToolSpec) -> AppError:
    """A project other than the one the caller is bound to: the same answer whether it exists or not.

    Only for a call that reads is leaving the project out named as the repair: no hint makes a write land elsewhere.
    """
    details: Details = {"ask": {"project": "any"}}
    if spec.hints.read_only:
        details = {"arguments": [{"do": "drop", "at": PROJECT}]}
    return AppError(
        "project_not_found",
        404,
        "There is no such project on this connection, which is bound to one.",
        f"Leave {PROJECT} out to work in that one; for another, use a key and a URL that are not bound to this one.",
        details=details,
    )


def not_the_agents(name: str) -> AppError:
    """A run called a tool that its agent's row does not name."""
    return AppError(
        "tool_not_allowed",
        403,
        f"This agent may not use {name}.",
        "Go on without it. An administrator of the project can allow it with update_agent.",
        details={"ask": {"tools": name}},
    )


def project_bound(name: str) -> AppError:
    return AppError(
        "project_bound",
        403,
        f"{name} works across projects, and this connection is bound to one.",
        "Use a key that is not bound to a project, without ?project=.",
        details={"ask": {"project": "any"}},
    )


def _words(name: str) -> str:
    """``projectsList`` and ``list_projects`` alike: "list projects"."""
    return " ".join(sorted(_WORD.sub(r" \1", name).lower().split()))


def _fault(
    schema: dict[str, Any], given: Mapping[str, Any], error: ErrorDetails, taken: list[str]
) -> tuple[str, Repair]:
    wanted, value, path = _at(schema, given, error["loc"])
    at = ".".join(path) or "arguments"
    if error["type"] == "missing":
        return f"{at} is missing", {"do": "give", "at": at, "schema": _rules(wanted)}
    if error["type"] == "extra_forbidden":
        return _not_taken(at, [name for name in taken if name not in given] if len(path) == 1 else list(wanted))
    repair: Repair = {"do": "change", "at": at}
    if rules := _rules(wanted):
        repair["schema"] = rules
    if isinstance(value, str) and NUL in value:
        repair["without"] = [NUL]
    return f"{at}: {error['msg'].removeprefix('Value error, ')}", repair


def _not_taken(at: str, names: list[str]) -> tuple[str, Repair]:
    place, _, name = at.rpartition(".")
    meant = nearest(name, names)
    shown = at[:80]
    if meant is None:
        return f"{shown} is not an argument", {"do": "drop", "at": shown}
    to = f"{place}.{meant}" if place else meant
    return f"{shown} is not an argument, did you mean {to}", {"do": "rename", "at": shown, "to": to}


def _at(schema: dict[str, Any], given: Any, loc: tuple[int | str, ...]) -> tuple[dict[str, Any], Any, list[str]]:
    """The schema and the value at the place of a fault, and the place as far as it is one of the arguments: pydantic
    names the members of unions too. For an unknown argument the schema is that of its neighbours."""
    defs = schema.get("$defs", {})
    path: list[str] = []
    for step in loc:
        schema = _followed(schema, defs)
        if isinstance(step, int) and isinstance(given, list) and step < len(given):
            schema, given = schema.get("items", {}), given[step]
        elif (
            isinstance(step, str)
            and isinstance(given, Mapping)
            and (step in given or step in schema.get("properties", ()))
        ):
            neighbours = schema.get("properties", {})
            schema, given = neighbours.get(step, neighbours), given.get(step)
        else:
            break
        path.append(str(step))
    return _followed(schema, defs), given, path


def _followed(schema: dict[str, Any], defs: dict[str, Any]) -> dict[str, Any]:
    reference = schema.get("$ref")
    return defs[reference.rpartition("/")[2]] if isinstance(reference, str) else schema


def _rules(schema: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in schema.items() if name not in _UNSAID}


def lister_of(argument: str) -> str:
    """The tool that shows the ids an argument takes: that of the rows, or of those they belong to."""
    kind = argument.removesuffix(_ID)
    return _LISTED_WITH.get(kind, f"list_{kind}s")


def _names_a_row(schema: dict[str, Any], at: str) -> bool:
    """Whether an argument is the id of a row; the family that has it lists it."""
    return at.endswith(_ID) and schema["properties"].get(at, {}).get("format") == "uuid"
