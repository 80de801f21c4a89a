"""What a tool is: a plain async function, and all that MCP, the scope filter and the documentation need, as a value.

The signature is the contract: parameters become the input schema (``Caller`` is injected and invisible), the return
annotation becomes the output schema, the docstring the description. A parameter called ``project_id`` is the project
the call acts in; a connection narrowed to a project hides it from the schema and fills it in.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Final, NamedTuple, TypeAlias, get_type_hints
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, create_model

from db.principal import Principal
from db.scopes import Scope
from tools.ports import Services
from tools.preview import Preview
from tools.trust import unmarked, untrusted_paths

if TYPE_CHECKING:
    from db.database import Connection

PROJECT: Final = "project_id"
ProjectId: TypeAlias = Annotated[UUID, Field(description="From list_projects.")]
Progress: TypeAlias = Callable[[float, float | None, str | None], Awaitable[None]]
"""Hears how far a call has come: done, total where it is known, and what is being done, for people."""


class Call(NamedTuple):
    """One call of a tool: who calls, in which project, with which services. ``found``: what its ``before`` gave."""

    principal: Principal
    services: Services
    project_id: UUID | None = None
    connection: Connection | None = None
    listener: Progress | None = None
    found: Any = None

    async def progress(self, done: float, total: float | None = None, message: str | None = None) -> None:
        """Tell the caller how far a tool that takes long has come; each ``done`` more than the last. Costs nothing
        when nobody listens, waits when the listener is slow, never raises because it left."""
        if self.listener is not None:
            await self.listener(done, total, message)

    def transaction(self) -> AbstractAsyncContextManager[Connection]:
        """A connection inside a transaction as the caller: the one dispatch opened for a write, else a new one."""
        if self.connection is not None:
            return nullcontext(self.connection)
        return self.services.database.transaction(self.principal, self.project_id)


Caller: TypeAlias = Call


@dataclass(frozen=True, slots=True)
class Hints:
    """MCP tool annotations (ToolAnnotations, spec 2025-06-18 and later). All four are always said."""

    read_only: bool
    destructive: bool
    idempotent: bool
    open_world: bool


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A tool as a value. ``account_wide``: needs a caller who is not bound to one project.

    ``ends_project``: deletes the project it acts in, so a saved answer may be fetched though the project is gone.
    ``aliases``: former names, still answered but no longer listed.
    ``untrusted``: where the answer holds words of others (:mod:`tools.trust`). ``rest_from``: the tool that goes on
    where an answer was cut; by default the tool itself.
    ``takes_long``: minutes rather than seconds. It is answered as a stream, may report progress, and is cancelled when
    its caller leaves, if it only reads.

    ``preview``: says what a call would do, and refuses it where the tool would; ``None`` for a call that neither
    destroys nor reaches out, though others of its tool do. ``target``: the parameter that names what the tool acts on,
    beside the project, or several that do so together. ``asks_when``: which calls of a tool that is neither destructive
    nor outward wait for a person too, each time unless the project never asks.

    ``before`` and ``after`` are what a write does outside its transaction, where nothing may wait for the network.
    ``before``: takes the same parameters; what it gives is ``call.found``. It may run again for one effect. ``after``:
    makes the answer that goes out, from the call, the one that was saved, ``replayed`` and the same parameters, each
    time it goes out: what must not be saved, such as a signed address, is only ever in the former.

    ``opens``: the field of the answer that holds the address of a page for the person: a client that can is asked to
    lead them there.

    ``link``: the template of the resource a call is about, made of its parameters.
    """

    name: str
    title: str
    description: str
    scope: Scope
    hints: Hints
    function: Callable[..., Awaitable[Any]]
    input_model: type[BaseModel]
    output: TypeAdapter[Any]
    input_schema: dict[str, Any]
    output_schema: dict[str, Any]
    account_wide: bool = False
    ends_project: bool = False
    takes_long: bool = False
    aliases: tuple[str, ...] = ()
    untrusted: tuple[str, ...] = ()
    rest_from: str = ""
    preview: Callable[..., Awaitable[Preview | None]] | None = None
    target: str | tuple[str, ...] | None = None
    asks_when: Callable[[Mapping[str, Any]], bool] | None = None
    before: Callable[..., Awaitable[Any]] | None = None
    after: Callable[..., Awaitable[Any]] | None = None
    opens: str = ""
    link: str = ""
    family: str = ""
    """By default the module a tool lives in; ``?tools=`` chooses among families."""
    may_ask: bool = field(init=False)
    """Whether a call may have to wait for a person's approval (:mod:`tools.approval`)."""

    def __post_init__(self) -> None:
        may_ask = self.hints.destructive or self.hints.open_world or self.asks_when is not None
        object.__setattr__(self, "family", self.family or self.function.__module__.rpartition(".")[2])
        object.__setattr__(self, "may_ask", may_ask)

    @property
    def in_project(self) -> bool:
        return PROJECT in self.input_model.model_fields

    def narrowed_schema(self) -> dict[str, Any]:
        """The input schema on a connection that is narrowed to a project."""
        if not self.in_project:
            return self.input_schema
        schema = dict(self.input_schema)
        schema["properties"] = {name: value for name, value in schema["properties"].items() if name != PROJECT}
        schema["required"] = [name for name in schema.get("required", []) if name != PROJECT]
        if not schema["required"]:
            del schema["required"]
        return schema


class Arguments(BaseModel):
    """The base of every input model: unknown arguments are refused, not ignored."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


def tool(
    scope: Scope,
    *,
    read_only: bool,
    destructive: bool,
    idempotent: bool,
    open_world: bool,
    title: str | None = None,
    family: str = "",
    account_wide: bool = False,
    ends_project: bool = False,
    takes_long: bool = False,
    aliases: tuple[str, ...] = (),
    rest_from: str | None = None,
    preview: Callable[..., Awaitable[Preview | None]] | None = None,
    target: str | tuple[str, ...] | None = None,
    asks_when: Callable[[Mapping[str, Any]], bool] | None = None,
    before: Callable[..., Awaitable[Any]] | None = None,
    after: Callable[..., Awaitable[Any]] | None = None,
    opens: str = "",
    link: str = "",
) -> Callable[[Callable[..., Awaitable[Any]]], ToolSpec]:
    """Make a tool of an async function whose first parameter is ``call: Caller``. All four hints are mandatory.

    Raises ``TypeError`` at import for a contradiction: read-only and destructive at once, a read-only tool with a
    scope that writes (or the reverse), a missing docstring.
    """

    def decorate(function: Callable[..., Awaitable[Any]]) -> ToolSpec:
        name = function.__name__
        if read_only and destructive:
            raise TypeError(f"{name}: a read-only tool cannot be destructive")
        if read_only == scope.writes:
            raise TypeError(f"{name}: scope {scope} and read_only={read_only} contradict each other")
        description = inspect.getdoc(function)
        if not description:
            raise TypeError(f"{name}: a tool needs a docstring, it is what a model reads")
        hints = get_type_hints(function, include_extras=True)
        output = TypeAdapter(hints.pop("return"))
        output_schema = output.json_schema(mode="serialization")
        input_model = _arguments(function, hints)
        return ToolSpec(
            name=name,
            title=title or name.replace("_", " ").capitalize(),
            description=description,
            scope=scope,
            hints=Hints(read_only, destructive, idempotent, open_world),
            function=function,
            input_model=input_model,
            output=output,
            input_schema=compact(inlined(input_model.model_json_schema())),
            output_schema=compact(unmarked(output_schema), optional=False),
            account_wide=account_wide,
            ends_project=ends_project,
            takes_long=takes_long,
            aliases=aliases,
            untrusted=untrusted_paths(output_schema),
            rest_from=rest_from or name,
            preview=preview,
            target=target,
            asks_when=asks_when,
            before=before,
            after=after,
            opens=opens,
            link=link,
            family=family,
        )

    return decorate


def _arguments(function: Callable[..., Awaitable[Any]], hints: dict[str, Any]) -> type[BaseModel]:
    fields: dict[str, Any] = {}
    for parameter in list(inspect.signature(function).parameters.values())[1:]:
        default = ... if parameter.default is inspect.Parameter.empty else parameter.default
        fields[parameter.name] = (hints[parameter.name], default)
    return create_model(f"{function.__name__}_arguments", __base__=Arguments, **fields)


def inlined(schema: dict[str, Any]) -> dict[str, Any]:
    """A JSON Schema that pydantic made, in which a definition referred to once stands where it is referred to: its two
    names cost tokens and say nothing."""
    text = json.dumps(schema)
    once = {name: one for name, one in schema.get("$defs", {}).items() if text.count(f'"#/$defs/{name}"') == 1}

    def put(part: Any) -> Any:
        if isinstance(part, list):
            return [put(item) for item in part]
        if not isinstance(part, dict):
            return part
        found = once.get(str(part.get("$ref")).removeprefix("#/$defs/"), {})
        kept = {**found, **part}
        if found:
            del kept["$ref"]
        return {name: put(content) for name, content in kept.items()}

    shared = {name: one for name, one in schema.get("$defs", {}).items() if name not in once}
    rest = {name: content for name, content in schema.items() if name != "$defs"}
    whole: dict[str, Any] = put({"$defs": shared, **rest} if shared else rest)
    return whole


def compact(schema: Any, *, optional: bool = True) -> Any:
    """A JSON Schema without what costs tokens and says nothing: generated titles, objects that may hold anything, and,
    with ``optional``, the ``null`` beside the types of a parameter that may be left out."""
    if isinstance(schema, list):
        return [compact(item, optional=optional) for item in schema]
    if not isinstance(schema, dict):
        return schema
    kept: dict[str, Any] = {}
    for name, content in schema.items():
        if name in ("properties", "$defs"):
            kept[name] = {key: compact(value, optional=optional) for key, value in content.items()}
        elif name != "title" and not (name == "additionalProperties" and content is True):
            kept[name] = compact(content, optional=optional)
    others = [one for one in kept.get("anyOf", ()) if one != {"type": "null"}]
    if optional and len(others) < len(kept.get("anyOf", ())) and kept.get("default", ...) is None:
        del kept["anyOf"], kept["default"]
        kept = {**others[0], **kept} if len(others) == 1 else {"anyOf": others, **kept}
    return kept
