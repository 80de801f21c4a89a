"""What a tool is: a plain async function, and all that MCP, the scope filter and the documentation need, as a value.

The signature is the contract: parameters become the input schema (``Caller`` is injected and invisible), the return
annotation becomes the output schema, the docstring the description. A parameter called ``project_id`` is the project
the call acts in; a connection narrowed to a project hides it from the schema and fills it in.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Final, NamedTuple, TypeAlias, TypeVar, get_type_hints
from urllib.parse import quote, unquote
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
RESERVED: Final = ":/?#[]@!$&'()*+,;="
"""What ``{+name}`` leaves as it is (RFC 6570, 3.2.3)."""
ProjectId: TypeAlias = Annotated[UUID, Field(description="From list_projects.")]
Function = TypeVar("Function", bound=Callable[..., Awaitable[Any]])
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


class Document(NamedTuple):
    """What a resource may give instead of a model: its very bytes. ``text``: they are text, for models to read too."""

    data: bytes
    mime_type: str
    text: bool


class Member(NamedTuple):
    """One of the resources that a project has several of. ``values``: of the template's further variables; ``title``:
    what people call it; ``cursor``: where the ones after it begin."""

    values: dict[str, Any]
    title: str
    mime_type: str
    cursor: str


Lister: TypeAlias = Callable[[Services, Principal, UUID, str | None, int], Awaitable[list[Member]]]
Holder: TypeAlias = "Callable[[Connection, Sequence[UUID]], Awaitable[frozenset[UUID]]]"
Completer: TypeAlias = Callable[[Services, Principal, UUID, str, int, Mapping[str, str]], Awaitable[list[str]]]
_VARIABLE: Final = re.compile(r"\{(\+?)(\w+)\}")


@dataclass(frozen=True, slots=True)
class ResourceSpec:
    """A resource template (RFC 6570: ``{project_id}``, further ids, and ``{+path}``) and the function that reads it.

    ``mime_type``: empty where each has its own. ``listed``: ``resources/list`` shows one of it for each project of the
    caller. ``members``: shows those that a project has, up to a number of them, after a cursor; ``held_by``: which of
    some projects have any. ``completes``: for a variable, what may stand there in a project, of what was typed, up to a
    number; the other variables that are known already come last.
    """

    uri_template: str
    name: str
    title: str
    description: str
    scope: Scope
    function: Callable[..., Awaitable[Any]]
    output: TypeAdapter[Any]
    mime_type: str = "application/json"
    untrusted: tuple[str, ...] = ()
    rest_from: str = ""
    listed: bool = False
    members: Lister | None = None
    held_by: Holder | None = None
    completes: Mapping[str, Completer] = field(default_factory=dict)
    pattern: re.Pattern[str] = re.compile("")

    @property
    def variables(self) -> tuple[str, ...]:
        return tuple(self.pattern.groupindex)

    def uri(self, project_id: UUID, **further: Any) -> str:
        values = {PROJECT: project_id, **further}
        return _VARIABLE.sub(
            lambda found: quote(str(values[found[2]]), safe=RESERVED if found[1] else ""), self.uri_template
        )

    def match(self, uri: str) -> dict[str, Any] | None:
        """The values of the variables in ``uri`` when it is one of this template's, else ``None``."""
        found = self.pattern.fullmatch(uri)
        if found is None:
            return None
        return {name: UUID(text) if name.endswith("_id") else unquote(text) for name, text in found.groupdict().items()}


def _pattern(uri_template: str) -> re.Pattern[str]:
    spelled, end = "", 0
    for found in _VARIABLE.finditer(uri_template):
        value = (
            "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
            if found[2].endswith("_id")
            else (".+" if found[1] else "[^/]+")
        )
        spelled += f"{re.escape(uri_template[end : found.start()])}(?P<{found[2]}>{value})"
        end = found.end()
    return re.compile(spelled + re.escape(uri_template[end:]), re.DOTALL)


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
            input_schema=compact(input_model.model_json_schema()),
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


def resource(
    uri_template: str,
    scope: Scope,
    *,
    rest_from: str = "",
    listed: bool = False,
    title: str | None = None,
    mime_type: str = "application/json",
    members: Lister | None = None,
    held_by: Holder | None = None,
    completes: Mapping[str, Completer] | None = None,
) -> Callable[[Callable[..., Awaitable[Any]]], ResourceSpec]:
    """Make a resource of ``async (call, project_id, ...) -> model``; what it reads is the model as JSON, or the
    ``Document`` it gives instead.

    ``rest_from``: the tool that reads what did not fit.
    """

    def decorate(function: Callable[..., Awaitable[Any]]) -> ResourceSpec:
        name = function.__name__
        description = inspect.getdoc(function)
        if not description or scope.writes:
            raise TypeError(f"{name}: a resource needs a docstring and a scope that reads")
        output = TypeAdapter(get_type_hints(function, include_extras=True)["return"])
        shown = title or name.replace("_", " ").capitalize()
        untrusted = untrusted_paths(output.json_schema(mode="serialization"))
        return ResourceSpec(
            uri_template,
            name,
            shown,
            description,
            scope,
            function,
            output,
            mime_type=mime_type,
            untrusted=untrusted,
            rest_from=rest_from,
            listed=listed,
            members=members,
            held_by=held_by,
            completes=completes or {},
            pattern=_pattern(uri_template),
        )

    return decorate


def _arguments(function: Callable[..., Awaitable[Any]], hints: dict[str, Any]) -> type[BaseModel]:
    fields: dict[str, Any] = {}
    for parameter in list(inspect.signature(function).parameters.values())[1:]:
        default = ... if parameter.default is inspect.Parameter.empty else parameter.default
        fields[parameter.name] = (hints[parameter.name], default)
    return create_model(f"{function.__name__}_arguments", __base__=Arguments, **fields)


def compact(schema: Any, *, optional: bool = True) -> Any:
    """A JSON Schema without what costs tokens and says nothing: generated titles, objects that may hold anything, and,
    with ``optional``, the ``null`` beside the one type of a parameter that may be left out."""
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
    if optional and len(others) == 1 and len(kept["anyOf"]) == 2 and kept.get("default", ...) is None:
        del kept["anyOf"], kept["default"]
        kept = {**others[0], **kept}
    return kept
