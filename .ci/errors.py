"""Every error the product makes, read out of its source: ``docs/errors.md`` is written from this, and a test asks that
each has a snake_case code, a message and a hint.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PACKAGES = ("db", "tools", "agents", "server")
FACTORIES: dict[str, tuple[str, ...]] = {
    # What is given, in order, to each way of making an error.
    "AppError": ("code", "status", "message", "hint", "retryable", "retry_after"),
    "EmbeddedError": ("code", "message", "hint"),
    "_Answer": ("code", "status", "message", "hint", "wait"),
    "conflict": ("code", "message", "hint"),
    "invalid": ("message", "hint", "code"),
    "not_found": ("kind", "hint"),
}
STATUS = {"EmbeddedError": 503, "conflict": 409, "invalid": 400, "not_found": 404}
FIXED = {"invalid": "invalid_arguments"}
MEANINGS = {
    # Codes with many messages, or whose message is not a text of the source.
    "access_denied": "The person did not allow it.",
    "http_error": "What the HTTP status says.",
    "internal_error": "Something broke inside Innkeeper; the log has it under the request id.",
    "invalid_arguments": "Something that was given is missing, unknown or wrong; the message names it.",
    "invalid_client": "The client is unknown, or its secret is missing or wrong (RFC 6749, 5.2).",
    "invalid_client_metadata": "What a client says of itself cannot be taken (RFC 7591, 3.2.2).",
    "invalid_grant": "A code or token is unknown, expired, revoked, used before, or of another client (RFC 6749, 5.2).",
    "invalid_request": "A request to the authorization server is malformed (RFC 6749).",
    "invalid_scope": "A scope there is not, or beyond what was granted (RFC 6749, 5.2).",
    "invalid_target": "The resource is not this server's, or not the one agreed to (RFC 8707).",
    "model_not_configured": "No model is configured for this, or one lacks its key or address.",
    "model_not_supported": "This version cannot use models of this provider or form.",
    "model_unavailable": "The model cannot be reached, or is still starting.",
    "project_not_found": "There is no such project, or this caller may not see it here.",
    "resource_not_found": "There is nothing to read at this address, or this caller may not see it.",
    "remote_bad_answer": "What is at an address that a tenant gave answers in a way that cannot be used.",
    "role_insufficient": "The caller's role in this project does not allow this.",
    "route_not_found": "There is nothing at this path.",
    "url_not_allowed": "Innkeeper does not go to this address for a tenant: it is no public web address.",
    "unauthorized_client": "This client may not use this flow or grant (RFC 6749, 5.2).",
    "unauthenticated": "There is no access token, or it is unknown, revoked or expired.",
    "unavailable": "The database cannot be reached at the moment.",
    "tools_unavailable": "The tools did not answer the run as they should.",
}
INTRODUCTION = """\
# Errors

Generated from every place in the source that makes an error; do not edit. Over MCP an error is the result of the tool
(`isError`), or a JSON-RPC error where the protocol has no result; over plain HTTP it is `application/problem+json`.
Programs find `code`, `message`, `hint` and `retryable` in `_meta["innkeeper/error"]`, in the `data` of a JSON-RPC
error, or in the problem itself, and beside them, where it helps:

| field | what to do with it |
|---|---|
| `next_tool` | call that tool first; its answer has what was missing |
| `arguments` | a list of repairs: `do` is `give`, `drop`, `change` or `rename`, `at` the argument, `any_of` several \
to choose from, `schema` what it must be, \
`without` what must not be in it, `to` its right name |
| `did_you_mean` | the tool or prompt that was probably meant |
| `idempotency_key` | `new`: send the call with a key that was not used |
| `max_bytes` | the longest request that is taken |
| `uri_templates` | the resources there are |
| `retry_after` | seconds after which the same call may be sent again |
| `ask` | what only a person can change: the `scope` of the key, its `project` binding, `read_only`, \
the `role` in the project, the `tools` of the connection |
| `approval` | what waits for a person's yes: `id`, `url`, `effect`, `expires_at` |

A call beyond the scopes of its token is HTTP 403 with `WWW-Authenticate: Bearer error="insufficient_scope"`, which
names in `scope` all the scopes to ask a new token for.

| code | status | meaning | retry the same call |
|---|---|---|---|
"""


@dataclass(frozen=True)
class Made:
    """One place that makes an error. ``…`` stands for what is only known when it happens; an empty ``hint`` means that
    there is none, ``None`` that it is no text in the source."""

    place: str
    code: str | None
    status: str
    message: str
    hint: str | None
    retryable: str


def made(root: Path) -> list[Made]:
    """Every construction of an error in the packages, in the order of files and lines."""
    found: list[Made] = []
    for package in PACKAGES:
        for file in sorted((root / package).rglob("*.py")):
            tree = ast.parse(file.read_text(encoding="utf-8"))
            found += _in(tree, str(file.relative_to(root)))
    return found


def page(root: Path) -> str:
    """The page as Markdown: a row a code and status, with the first message that is said with it."""
    rows: dict[tuple[str, str], Made] = {}
    for one in made(root):
        if one.code is not None:
            rows.setdefault((one.code, one.status), one)
    lines = [
        f"| `{code}` | {status} | {MEANINGS.get(code, one.message).replace('|', chr(92) + '|')} | {one.retryable} |"
        for (code, status), one in sorted(rows.items())
    ]
    return INTRODUCTION + "\n".join(lines) + "\n"


def _in(tree: ast.Module, file: str) -> Iterator[Made]:
    passed_on = {id(call) for definition in ast.walk(tree) for call in _passes_on(definition)}
    errors = {one.name for one in ast.walk(tree) if isinstance(one, ast.ClassDef) and _is_error(one)}
    classes = {id(call): one for one in ast.walk(tree) if isinstance(one, ast.ClassDef) for call in ast.walk(one)}
    for call in ast.walk(tree):
        if not isinstance(call, ast.Call) or id(call) in passed_on:
            continue
        name = _called(call)
        if name == "__init__" and id(call) in classes and classes[id(call)].name in errors:
            name = next(_named(base) for base in classes[id(call)].bases)
        if name in FACTORIES:
            yield _described(call, name, f"{file}:{call.lineno}")


def _described(call: ast.Call, factory: str, place: str) -> Made:
    given = dict(zip(FACTORIES[factory], call.args, strict=False))
    given |= {keyword.arg: keyword.value for keyword in call.keywords if keyword.arg}
    code = _text(given["code"]) if "code" in given else FIXED.get(factory)
    message = _text(given.get("message")) or "…"
    hint = _text(given["hint"]) if "hint" in given else ""
    if factory == "not_found":
        kind = _text(given["kind"]) or "…"
        code = f"{kind}_not_found"
        message = f"There is no such {kind.replace('_', ' ')}, or this caller may not see it."
        hint = hint or f"List what this caller can see (list_{kind}s) and use one of those."
    status = given.get("status")
    shown = str(status.value) if isinstance(status, ast.Constant) else str(STATUS.get(factory, "…"))
    return Made(place, code, shown, " ".join(message.split()), hint, _retryable(given))


def _retryable(given: dict[str, ast.expr]) -> str:
    if "wait" in given:
        return "no" if isinstance(given["wait"], ast.Constant) and given["wait"].value is None else "yes"
    value = given.get("retryable")
    if value is None:
        return "no"
    return {True: "yes", False: "no"}[value.value] if isinstance(value, ast.Constant) else "it says"


def _text(node: ast.expr | None) -> str | None:
    """A text of the source, with … for what is put into it; ``None`` for what is no text there."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else None
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part) or "…" for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return (_text(node.left) or "…") + (_text(node.right) or "…")
    return None


def _passes_on(definition: ast.AST) -> list[ast.Call]:
    """The calls by which a factory, or the base class of errors, passes on what it was given itself."""
    is_base = isinstance(definition, ast.ClassDef) and definition.name in FACTORIES
    is_factory = isinstance(definition, ast.FunctionDef) and definition.name in FACTORIES
    if not (is_base or is_factory):
        return []
    return [call for call in ast.walk(definition) if isinstance(call, ast.Call)]


def _is_error(definition: ast.ClassDef) -> bool:
    return any(_named(base) in ("AppError", "EmbeddedError") for base in definition.bases)


def _called(call: ast.Call) -> str:
    return _named(call.func)


def _named(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""
