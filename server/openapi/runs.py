"""Runs: ``POST /agui``, ``/runs/...``, and a place for attachments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from db.runs import LIVE
from server.http.presign import LARGEST
from server.openapi.operation import (
    EVENTS,
    JSON,
    MOMENT,
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
    ref,
    thing,
)

TAG: Final = "runs"
KEY: Final = ("bearer", "key")
PROJECT: Final = in_query("project", "The project, unless the key is bound to one.", UUID)
READ_ONLY: Final = in_query(
    "read_only", "1: nothing is changed.", {"type": "string", "enum": ["0", "1", "false", "true", "no", "yes"]}
)
LAST_EVENT_ID: Final = in_header(
    "Last-Event-ID",
    "The id of the last event that arrived; without it, or empty, from the first one.",
    {"type": "string", "pattern": "^[0-9]*$"},
)
RUN_ID: Final = in_path("run_id", "The header Innkeeper-Run-Id of the answer that started it.")
COUNT: Final[Schema] = {"type": "integer", "minimum": 0}

RUN: Final = thing(
    {
        "id": UUID,
        "runId": TEXT,
        "threadId": TEXT,
        "agent": TEXT,
        "status": {"type": "string", "description": f"Not over while it is {', '.join(sorted(LIVE))}."},
        "outcome": nullable(
            thing(
                {"type": {"enum": ["success", "interrupt", "cancelled"]}},
                pendingToolCallIds=listed(TEXT),
                interrupts=listed({"type": "object"}),
            )
        ),
        "errorCode": nullable(TEXT),
        "lastEventId": COUNT,
        "usage": thing(
            {
                "model": nullable(TEXT),
                "requests": COUNT,
                "toolCalls": COUNT,
                "inputTokens": COUNT,
                "outputTokens": COUNT,
                "costUsd": nullable({"type": "string", "description": "A decimal number."}),
            }
        ),
        "createdAt": MOMENT,
        "startedAt": nullable(MOMENT),
        "endedAt": nullable(MOMENT),
    }
)
NAME: Final[Schema] = {"type": "string", "minLength": 1, "maxLength": 255}
SOURCE: Final = thing(
    {
        "type": {"enum": ["data", "url", "file"]},
        "value": {"type": "string", "description": "Base64, or an address."},
    },
    mimeType=TEXT,
)
PART: Final = {
    "oneOf": [
        thing({"type": {"const": "text"}, "text": TEXT}),
        thing({"type": {"enum": ["image", "audio", "video", "document"]}, "source": SOURCE}),
    ]
}
INPUT: Final = {
    **thing(
        {"threadId": NAME, "runId": NAME, "messages": listed(ref("Message"))},
        tools=nullable(listed(thing({"name": NAME, "description": TEXT}, parameters={"type": ["object", "null"]}))),
        context=nullable(listed(thing({"description": TEXT, "value": TEXT}))),
        state={},
        resume=nullable(
            listed(thing({"interruptId": TEXT, "status": {"enum": ["resolved", "cancelled"]}}, payload={}))
        ),
        forwardedProps={
            "type": ["object", "null"],
            "description": "docs/runs.md says what `innkeeper` in it may hold.",
        },
    ),
    "description": "AG-UI 1.0. Of the messages, those after the last answer are new; the others are known here.",
}
EVENT: Final = {**thing({"data": TEXT}, id=TEXT), "description": "Each server-sent event."}
STREAM: Final = Answer(
    "The events of the run, until its last one. Each `id` is its number, each `data` an AG-UI 1.0 event.",
    {EVENTS: EVENT},
    {"Innkeeper-Run-Id": "The run's id here."},
)


def schemas() -> dict[str, Any]:
    return {"Run": RUN, "RunAgentInput": INPUT, "Message": {"oneOf": _messages()}, "ContentPart": PART}


def _messages() -> list[Schema]:
    words: Schema = {"anyOf": [TEXT, listed(ref("ContentPart"))]}
    call = thing({"id": NAME, "function": thing({"name": NAME, "arguments": TEXT})}, type={"const": "function"})
    return [
        _message("user", {"content": words}),
        _message("assistant", {}, content=nullable(TEXT), toolCalls=nullable(listed(call))),
        _message("tool", {"content": words, "toolCallId": NAME}, error=nullable(TEXT)),
        *(_message(role, {"content": TEXT}) for role in ("system", "developer", "reasoning")),
        _message("activity", {"activityType": TEXT, "content": {"type": "object"}}),
    ]


def _message(role: str, needed: Mapping[str, Schema], **optional: Schema) -> Schema:
    return thing({"id": NAME, "role": {"const": role}, **needed}, **optional)


def operations() -> list[Operation]:
    started = (400, 401, 402, 403, 404, 409, 410, 422, 429, 502, 504)
    return [
        *(
            Operation(
                "post",
                path,
                TAG,
                "Start a run, or attach to the one of the same input",
                {200: STREAM},
                started,
                says="A run goes on by itself: who reads it may leave and come back at /runs/{run_id}/events.",
                parameters=[*named, PROJECT, READ_ONLY, LAST_EVENT_ID],
                body={JSON: ref("RunAgentInput")},
                security=KEY,
            )
            for path, named in (
                ("/agui", []),
                ("/agui/{agent}", [in_path("agent", "The name of an agent of the project.", TEXT)]),
            )
        ),
        Operation(
            "get",
            "/runs/{run_id}",
            TAG,
            "Where a run stands",
            {200: Answer("The run.", {JSON: ref("Run")})},
            (400, 401, 403, 404, 429),
            parameters=[RUN_ID, PROJECT, READ_ONLY],
            security=KEY,
        ),
        Operation(
            "get",
            "/runs/{run_id}/events",
            TAG,
            "Read a run from any of its events on",
            {200: STREAM, 204: Answer("It is over, and nothing comes behind the event that was named.")},
            (400, 401, 403, 404, 410, 429),
            says="410 `events_gone` comes with a `snapshot`: the run, and the messages of its thread.",
            parameters=[RUN_ID, PROJECT, READ_ONLY, LAST_EVENT_ID],
            security=KEY,
        ),
        Operation(
            "post",
            "/runs/{run_id}/cancel",
            TAG,
            "End a run",
            {
                200: Answer("It had ended already.", {JSON: ref("Run")}),
                202: Answer("It was asked to end.", {JSON: ref("Run")}),
            },
            (400, 401, 403, 404, 429),
            parameters=[RUN_ID, PROJECT, READ_ONLY],
            security=KEY,
        ),
        Operation(
            "post",
            "/threads/{thread}/components/{component_id}/state",
            TAG,
            "Keep what a user made of a component",
            {200: Answer("The new state.", {JSON: thing({"state": {"type": "object"}})})},
            (400, 401, 403, 404, 409, 413, 422, 429),
            says="Between runs only. The model sees it in the next run.",
            parameters=[
                in_path("thread", "The thread's id, or its client's own name of it.", TEXT),
                in_path("component_id", "The messageId of its ACTIVITY_SNAPSHOT."),
                PROJECT,
                READ_ONLY,
            ],
            body={
                JSON: {"oneOf": [thing({"state": {"type": "object"}}), thing({"patch": listed({"type": "object"})})]}
            },
            security=KEY,
        ),
        Operation(
            "post",
            "/storage/presign",
            "storage",
            "A place for an attachment of a message",
            {
                200: Answer(
                    "PUT the bytes to `uploadUrl` with that Content-Type, then name `attachmentUri` in a message.",
                    {JSON: thing({"uploadUrl": TEXT, "attachmentUri": TEXT, "expiresIn": COUNT})},
                )
            },
            (400, 401, 402, 403, 404, 409, 429, 502, 507),
            parameters=[PROJECT, READ_ONLY],
            body={
                JSON: thing(
                    {
                        "contentType": {"type": "string", "maxLength": 100, "pattern": "^[a-z]+/[a-z0-9.+-]+$"},
                        "size": {"type": "integer", "minimum": 0, "description": f"In bytes; {LARGEST} at most."},
                    }
                )
            },
            security=("bearer", "key"),
        ),
    ]
