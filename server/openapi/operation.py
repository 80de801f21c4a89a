"""One operation of the plain HTTP of this house, and what is said the same of all of them (OpenAPI 3.1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final, TypeAlias

Schema: TypeAlias = Mapping[str, Any]

JSON: Final = "application/json"
FORM: Final = "application/x-www-form-urlencoded"
EVENTS: Final = "text/event-stream"
PROBLEM: Final = "application/problem+json"
HTML: Final = "text/html"

UUID: Final[Schema] = {"type": "string", "format": "uuid"}
MOMENT: Final[Schema] = {"type": "string", "format": "date-time"}
TEXT: Final[Schema] = {"type": "string"}
WITH_BODY: Final = frozenset({"post", "put", "patch"})
ANYWHERE: Final = (403, 421, 503)
"""Refusals that any address may answer with: a foreign page, a foreign host, no database."""
OF_BODIES: Final = (413, 415)


@dataclass(frozen=True, slots=True)
class Answer:
    """``content``: a schema by media type; none for an answer without a body."""

    says: str
    content: Mapping[str, Schema] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)

    def described(self) -> dict[str, Any]:
        answer: dict[str, Any] = {"description": self.says}
        if self.content:
            answer["content"] = {media: {"schema": schema} for media, schema in self.content.items()}
        if self.headers:
            answer["headers"] = {
                name: {"description": says, "schema": {"type": "string"}} for name, says in self.headers.items()
            }
        return answer


@dataclass(frozen=True, slots=True)
class Operation:
    """``refusals``: statuses that are answered with a problem document, beside those of any address. ``security``:
    names of schemes, any of which suffices; ``""`` stands for none at all. ``body``: a schema by media type."""

    method: str
    path: str
    tag: str
    summary: str
    answers: Mapping[int, Answer]
    refusals: Sequence[int] = ()
    says: str = ""
    parameters: Sequence[Schema] = ()
    body: Mapping[str, Schema] = field(default_factory=dict)
    body_required: bool = True
    security: Sequence[str] = ()
    refused_as: str = "Problem"
    """The schema of refusals: ``Problem``, or ``OAuthError`` where RFC 6749 has one of its own."""

    @property
    def id(self) -> str:
        words = self.path.strip("/").replace("{", "").replace("}", "").replace(".", "_").replace("-", "_").split("/")
        return "_".join([self.method, *(word for word in words if word)])

    def described(self) -> dict[str, Any]:
        said: dict[str, Any] = {"operationId": self.id, "tags": [self.tag], "summary": self.summary}
        if self.says:
            said["description"] = self.says
        if self.parameters:
            said["parameters"] = list(self.parameters)
        if self.body:
            content = {media: {"schema": schema} for media, schema in self.body.items()}
            said["requestBody"] = {"required": self.body_required, "content": content}
        said["security"] = [{name: []} if name else {} for name in self.security]
        said["responses"] = self._responses()
        return said

    def _responses(self) -> dict[str, Any]:
        statuses = {*self.refusals, *ANYWHERE, *(OF_BODIES if self.method in WITH_BODY else ())}
        responses = {str(status): answer.described() for status, answer in self.answers.items()}
        for status in sorted(statuses - set(self.answers)):
            kind = "Problem" if status in (*ANYWHERE, *OF_BODIES) else self.refused_as
            responses[str(status)] = self._refusal(status, {kind, self.refused_as})
        return dict(sorted(responses.items()))

    def _refusal(self, status: int, kinds: set[str]) -> dict[str, Any]:
        content = {(PROBLEM if kind == "Problem" else JSON): {"schema": ref(kind)} for kind in sorted(kinds)}
        headers = {}
        if status == 401:
            headers["WWW-Authenticate"] = {"description": "How a token is sent (RFC 9110).", "schema": TEXT}
        if status in (429, 503):
            headers["Retry-After"] = {"description": "Seconds to wait.", "schema": {"type": "integer"}}
        refusal: dict[str, Any] = {"description": HTTPStatus(status).phrase, "content": content}
        return {**refusal, "headers": headers} if headers else refusal


def ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def thing(required: Mapping[str, Schema], **optional: Schema) -> dict[str, Any]:
    """The schema of an object; nothing else is said of further fields."""
    return {"type": "object", "properties": {**required, **optional}, "required": list(required)}


def listed(items: Schema) -> dict[str, Any]:
    return {"type": "array", "items": items}


def in_path(name: str, says: str, schema: Schema = UUID) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "description": says, "schema": schema}


def in_query(name: str, says: str, schema: Schema = TEXT) -> dict[str, Any]:
    return {"name": name, "in": "query", "description": says, "schema": schema}


def in_header(name: str, says: str, schema: Schema = TEXT, *, required: bool = False) -> dict[str, Any]:
    return {"name": name, "in": "header", "required": required, "description": says, "schema": schema}


def nullable(schema: Schema) -> dict[str, Any]:
    return {"anyOf": [schema, {"type": "null"}]}
