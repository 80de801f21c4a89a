"""The house itself: its health, what a connection would see, webhooks, and the files of this machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from server.openapi.operation import (
    JSON,
    TEXT,
    UUID,
    Answer,
    Operation,
    Schema,
    in_header,
    in_path,
    in_query,
    listed,
    nullable,
    thing,
)
from server.openapi.runs import PROJECT, READ_ONLY

BYTES: Final = "application/octet-stream"
STATUS: Final = thing({"status": TEXT})
EVENT: Final[Schema] = {"type": "object"}
FAMILIES: Final[Schema] = {"type": "string", "pattern": "^[a-z_]+(,[a-z_]+)*$"}


@dataclass(frozen=True, slots=True)
class Offered:
    """What depends on the settings: ``files``, whether this machine keeps the files and serves them; ``metrics`` and
    ``bucket``, whether there is a token for the one and a secret for the other."""

    files: bool
    metrics: bool
    bucket: bool


def operations(offered: Offered) -> list[Operation]:
    return [
        *_house(),
        *_mcp(),
        *_webhooks(),
        *(_metrics() if offered.metrics else ()),
        *(_bucket() if offered.bucket else ()),
        *(_files() if offered.files else ()),
    ]


def _house() -> list[Operation]:
    tag = "house"
    return [
        Operation("get", "/", tag, "The bare address", {303: Answer("On to the pages for people.")}),
        Operation("get", "/healthz", tag, "Whether the process lives", {200: Answer("It does.", {JSON: STATUS})}),
        Operation("get", "/readyz", tag, "Whether it can work", {200: Answer("It can.", {JSON: STATUS})}),
        Operation(
            "get", "/openapi.json", tag, "This document", {200: Answer("The document.", {JSON: EVENT})},
        ),
    ]  # fmt: skip


def _mcp() -> list[Operation]:
    preview = thing(
        {
            "project_id": nullable(UUID),
            "read_only": {"type": "boolean"},
            "scopes": listed(TEXT),
            "tools": listed(thing({"name": TEXT, "scope": TEXT})),
            "resources": listed(thing({"uri_template": TEXT})),
            "prompts": listed(thing({"name": TEXT})),
            "tokens": thing({"total": nullable({"type": "integer"})}),
        }
    )
    return [
        Operation(
            "get", "/mcp/preview", "mcp", "What a connection with this key and this query would see",
            {200: Answer("Tools, scopes, and what they cost a model.", {JSON: preview})}, (400, 401, 404, 429),
            parameters=[PROJECT, READ_ONLY, in_query("tools", "Families, separated by commas.", FAMILIES)],
            security=("bearer",),
        ),
        Operation(
            "delete", "/mcp/calls/{key}", "mcp", "Ask for the end of a long write",
            {202: Answer("It was asked to end.")}, (400, 401, 403, 404, 409, 429),
            parameters=[in_path("key", "Its idempotency key.", TEXT)], security=("bearer",),
        ),
    ]  # fmt: skip


def _webhooks() -> list[Operation]:
    tag = "webhooks"
    signed = [
        in_header(f"webhook-{name}", "As Standard Webhooks have it.") for name in ("id", "timestamp", "signature")
    ]
    taken = {200: Answer("What became of it.", {JSON: thing({"outcome": TEXT})})}
    sync = thing({}, sync_id=UUID, replayed={"type": "boolean"}, pong={"type": "boolean"})
    return [
        Operation(
            "post", "/webhooks/resend", tag, "Resend tells of mail of this house", taken, (400, 403),
            parameters=signed, body={JSON: EVENT},
        ),
        Operation(
            "post", "/webhooks/resend/{project_id}", tag, "Resend tells of mail of a project", taken, (400, 403, 404),
            parameters=[in_path("project_id", "The project."), *signed], body={JSON: EVENT},
        ),
        Operation(
            "post", "/webhooks/registry/{source}", tag, "A source of components has changed",
            {200: Answer("A ping, or a delivery that came before.", {JSON: sync}),
             202: Answer("It will be looked at.", {JSON: sync})},
            (401, 404),
            parameters=[
                in_path("source", "The source."),
                in_header("X-Hub-Signature-256", "As GitHub signs."),
                *signed,
            ],
            body={JSON: EVENT},
        ),
    ]  # fmt: skip


def _metrics() -> list[Operation]:
    figures = Answer("The figures.", {"text/plain": TEXT})
    return [
        Operation(
            "get", "/metrics", "house", "Figures for Prometheus", {200: figures}, (401,),
            says="The bearer token is the metrics token of the settings.", security=("bearer",),
        ),
    ]  # fmt: skip


def _bucket() -> list[Operation]:
    return [
        Operation(
            "post", "/webhooks/storage", "webhooks", "A bucket tells of its files", {204: Answer("Heard.")}, (400, 401),
            says="Proof is the secret of the settings, as the bearer token or in a signature of Standard Webhooks.",
            body={JSON: EVENT}, security=("bearer", ""),
        ),
    ]  # fmt: skip


def _files() -> list[Operation]:
    tag, key = "storage", in_path("key", "As the ticket says.", TEXT)
    ticket = [in_query(name, "As the ticket says.") for name in ("expires", "signature")]
    whole = Answer("The file.", {"*/*": {}}, {"ETag": "Of its bytes.", "Accept-Ranges": "bytes"})
    refused = (400, 403, 404, 410, 412, 416)
    return [
        Operation(
            "get", "/files/{key}", tag, "Fetch a file with a ticket",
            {200: whole, 206: Answer("A part of it.", {"*/*": {}}), 304: Answer("It is the one of If-None-Match.")},
            refused, parameters=[key, *ticket, in_header("Range", "bytes=first-last (RFC 9110)")],
        ),
        Operation(
            "put", "/files/{key}", tag, "Bring a file with a ticket", {201: Answer("It is here.")}, refused,
            parameters=[key, *ticket], body={BYTES: {}}, body_required=False,
        ),
    ]  # fmt: skip
