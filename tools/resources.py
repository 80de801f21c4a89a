"""What a resource is: a function that reads what an address names, as a value, like a tool (:mod:`tools.contract`)."""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias, get_type_hints
from urllib.parse import quote, unquote
from uuid import UUID

from pydantic import TypeAdapter

from db.principal import Principal
from db.scopes import Scope
from tools.contract import PROJECT
from tools.ports import Services
from tools.trust import untrusted_paths

if TYPE_CHECKING:
    from db.database import Connection


RESERVED: Final = ":/?#[]@!$&'()*+,;="
"""What ``{+name}`` leaves as it is (RFC 6570, 3.2.3)."""


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
