"""``/v1``: threads and runs as npm @tambo-ai/typescript-sdk asks for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from server.openapi.operation import (
    EVENTS,
    JSON,
    MOMENT,
    TEXT,
    UUID,
    Answer,
    Operation,
    Schema,
    in_path,
    in_query,
    listed,
    nullable,
    ref,
    thing,
)
from server.openapi.runs import EVENT, KEY, LAST_EVENT_ID, NAME, PROJECT, READ_ONLY
from server.v1.asked import TOOL_NAME

TAG: Final = "v1"
USER_KEY: Final = in_query("userKey", "Your server's own name for the end user it acts for.", NAME)
AGENT: Final = in_query("agent", "The agent that answers.", NAME)
CURSOR: Final = in_query("cursor", "nextCursor of the page before.", {"type": "string", "maxLength": 200})
LIMIT: Final = in_query("limit", "Most rows to return.", {"type": "integer", "minimum": 1, "maximum": 100})
ORDER: Final = in_query("order", "asc: the oldest first.", {"type": "string", "enum": ["asc", "desc"]})
THREAD_ID: Final = in_path("thread_id", "From GET /v1/threads.")
RUN_ID: Final = in_path("run_id", "The header X-Run-Id, or the runId of RUN_STARTED.")
MESSAGE_ID: Final = in_path("message_id", "From the thread's messages.", TEXT)
ASKED: Final = [PROJECT, READ_ONLY, USER_KEY]
ANY: Final[Schema] = {}
OBJECT: Final[Schema] = {"type": "object"}

TEXT_BLOCK: Final = thing({"type": {"const": "text"}, "text": TEXT})
RESOURCE_BLOCK: Final = thing(
    {
        "type": {"const": "resource"},
        "resource": thing({}, **dict.fromkeys(("mimeType", "text", "blob", "uri", "name"), nullable(TEXT))),
    }
)
RESULT_BLOCK: Final = thing(
    {"type": {"const": "tool_result"}, "toolUseId": NAME, "content": listed(ref("V1Said"))},
    isError=nullable({"type": "boolean"}),
)
USE_BLOCK: Final = thing({"type": {"const": "tool_use"}, "id": TEXT, "name": TEXT, "input": ANY})
COMPONENT_BLOCK: Final = thing({"type": {"const": "component"}, "id": TEXT, "name": TEXT, "props": OBJECT}, state=ANY)
MESSAGE: Final = thing(
    {
        "id": TEXT,
        "role": {"enum": ["user", "assistant", "system"]},
        "content": listed({"oneOf": [TEXT_BLOCK, RESOURCE_BLOCK, RESULT_BLOCK, USE_BLOCK, COMPONENT_BLOCK]}),
        "createdAt": MOMENT,
    },
    metadata=ANY,
    isCancelled={"type": "boolean"},
)
THREAD: Final = thing(
    {
        "id": UUID,
        "createdAt": MOMENT,
        "updatedAt": MOMENT,
        "runStatus": {"enum": ["idle", "waiting", "streaming"]},
    },
    currentRunId=UUID,
    lastCompletedRunId=UUID,
    pendingToolCallIds=listed(TEXT),
    lastRunCancelled={"type": "boolean"},
    lastRunError=thing({"message": TEXT}, code=TEXT),
    name=TEXT,
    metadata=OBJECT,
    userKey=TEXT,
)
TOOL: Final[Schema] = {"type": "string", "pattern": TOOL_NAME}
COUNT: Final[Schema] = {"type": "integer", "minimum": 1}
SAID: Final = {"oneOf": [TEXT_BLOCK, RESOURCE_BLOCK]}
INITIAL: Final = thing(
    {"role": {"enum": ["user", "assistant", "system"]}, "content": {**listed(ref("V1Said")), "minItems": 1}},
    metadata=ANY,
)
NEW_THREAD: Final = thing(
    {}, metadata=nullable(OBJECT), initialMessages=nullable(listed(INITIAL)), userKey=nullable(NAME)
)
SCHEMA: Final[Schema] = {"type": ["object", "null"], "description": "JSON Schema 2020-12."}
RUN: Final = thing(
    {
        "message": thing(
            {
                "role": {"const": "user"},
                "content": {**listed({"oneOf": [*SAID["oneOf"], RESULT_BLOCK]}), "minItems": 1},
            },
            additionalContext=ANY,
            metadata=ANY,
        )
    },
    availableComponents=nullable(
        listed(thing({"name": NAME}, description=TEXT, propsSchema=SCHEMA, stateSchema=SCHEMA))
    ),
    tools=nullable(listed(thing({"name": TOOL}, description=TEXT, inputSchema=SCHEMA, maxCalls=nullable(COUNT)))),
    toolChoice={"anyOf": [{"enum": ["auto", "none", "required", None]}, thing({"name": NAME})]},
    previousRunId=nullable({**NAME, "description": "The thread's last run, once it has one."}),
    maxTokens=nullable({"type": "integer", "minimum": 1, "maximum": 1_000_000}),
    temperature=nullable({"type": "number", "minimum": 0, "maximum": 2}),
    runMetadata=ANY,
    userKey=nullable(NAME),
)
STREAM: Final = Answer(
    "The events of the run, until its last one: AG-UI 0.0.44, with CUSTOM events `tambo.*`.",
    {EVENTS: EVENT},
    {"X-Thread-Id": "The thread's id.", "X-Run-Id": "The run's id."},
)
READS: Final = (400, 401, 403, 404, 429)
WRITES: Final = (*READS, 409, 422)
STARTS: Final = (*WRITES, 402, 502, 504)


def schemas() -> dict[str, Any]:
    return {"V1Thread": THREAD, "V1Message": MESSAGE, "V1Said": SAID, "V1Run": RUN}


def operations() -> list[Operation]:
    return [*_threads(), *_messages(), *_runs()]


def _threads() -> list[Operation]:
    thread = {JSON: ref("V1Thread")}
    threads = {JSON: thing({"threads": listed(ref("V1Thread")), "hasMore": {"type": "boolean"}}, nextCursor=TEXT)}
    whole = {JSON: {"allOf": [ref("V1Thread"), thing({"messages": listed(ref("V1Message"))})]}}
    change = {JSON: thing({}, name=nullable(NAME), metadata=nullable(OBJECT))}
    one = [THREAD_ID, *ASKED]
    return [
        replace(
            _operation(
                "post", "/v1/threads", "Make a thread", {201: Answer("It.", thread)}, WRITES, ASKED, {JSON: NEW_THREAD}
            ),
            body_required=False,
        ),
        _operation(
            "get",
            "/v1/threads",
            "List threads, the newest first",
            {200: Answer("A page.", threads)},
            READS,
            [*ASKED, LIMIT, CURSOR],
        ),
        _operation("get", "/v1/threads/{thread_id}", "Read a thread", {200: Answer("It.", whole)}, READS, one),
        _operation(
            "patch",
            "/v1/threads/{thread_id}",
            "Name or describe a thread",
            {200: Answer("It.", thread)},
            WRITES,
            one,
            change,
        ),
        _operation(
            "delete",
            "/v1/threads/{thread_id}",
            "Delete a thread with its runs",
            {204: Answer("It is gone.")},
            WRITES,
            one,
        ),
    ]


def _messages() -> list[Operation]:
    page = {JSON: thing({"messages": listed(ref("V1Message")), "hasMore": {"type": "boolean"}}, nextCursor=TEXT)}
    path = "/v1/threads/{thread_id}/messages"
    return [
        _operation(
            "get",
            path,
            "List the messages of a thread",
            {200: Answer("A page.", page)},
            READS,
            [THREAD_ID, *ASKED, LIMIT, CURSOR, ORDER],
        ),
        _operation(
            "get",
            f"{path}/{{message_id}}",
            "Read a message",
            {200: Answer("It.", {JSON: ref("V1Message")})},
            READS,
            [THREAD_ID, MESSAGE_ID, *ASKED],
        ),
    ]


def _runs() -> list[Operation]:
    cancelled = {JSON: thing({"runId": UUID, "status": {"const": "cancelled"}})}
    state = {JSON: {"oneOf": [thing({"state": OBJECT}), thing({"patch": listed(OBJECT)})]}}
    begins = {JSON: {"allOf": [ref("V1Run"), thing({}, thread=NEW_THREAD, threadMetadata=OBJECT)]}}
    return [
        _operation(
            "post", "/v1/threads/runs", "Begin a thread with a run", {200: STREAM}, STARTS, [*ASKED, AGENT], begins
        ),
        _operation(
            "post",
            "/v1/threads/{thread_id}/runs",
            "Start a run in a thread",
            {200: STREAM},
            STARTS,
            [THREAD_ID, *ASKED, AGENT],
            {JSON: ref("V1Run")},
        ),
        _operation(
            "get",
            "/v1/threads/{thread_id}/runs/{run_id}/events",
            "Read a run from any of its events on",
            {200: STREAM, 204: Answer("It is over, and nothing comes behind the event that was named.")},
            (*READS, 410),
            [THREAD_ID, RUN_ID, *ASKED, LAST_EVENT_ID],
        ),
        _operation(
            "delete",
            "/v1/threads/{thread_id}/runs/{run_id}",
            "End a run",
            {200: Answer("It is over, or will be at once.", cancelled)},
            READS,
            [THREAD_ID, RUN_ID, *ASKED],
        ),
        _operation(
            "post",
            "/v1/threads/{thread_id}/components/{component_id}/state",
            "Keep what a user made of a component",
            {200: Answer("The new state.", {JSON: thing({"state": OBJECT})})},
            WRITES,
            [THREAD_ID, in_path("component_id", "The id of its content block."), *ASKED],
            state,
        ),
    ]


def _operation(
    method: str,
    path: str,
    summary: str,
    answers: dict[int, Answer],
    refusals: tuple[int, ...],
    parameters: list[dict[str, Any]],
    body: Mapping[str, Schema] | None = None,
) -> Operation:
    return Operation(
        method, path, TAG, summary, answers, refusals, parameters=parameters, body=body or {}, security=KEY
    )
