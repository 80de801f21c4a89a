"""The reducer of npm @tambo-ai/client 1.1 as the judge of :mod:`server.v1.dialect`."""

from __future__ import annotations

import json

from starlette.types import Receive, Scope, Send

from db.ids import uuid7
from server.v1.dialect import Dialect
from tests.clients.javascript import JavaScript
from tests.clients.tambo import Told
from tests.fakes.sockets import on_socket

Log = list[tuple[str, ...]]


async def test_the_reducer_of_the_client_follows_every_log_there_may_be(javascript: JavaScript) -> None:
    """Logs as the engine leaves them: broken off, made again, of strange models. What the client cannot follow it
    throws, or warns of."""
    state: Log = [("STATE_SNAPSHOT", ""), ("MESSAGES_SNAPSHOT", ""), ("STATE_DELTA", "")]
    logs: dict[str, Log] = {
        "text around calls": [*text("1"), *call("c"), *text("2"), ("TOOL_CALL_RESULT", "c"), *text("3")],
        "calls whose arguments are no JSON": [
            *call("c", '{"a": '),
            *call("d"),
            *(("TOOL_CALL_RESULT", name) for name in "dc"),
            *text("1"),
        ],
        "reasoning alone": thought("1"),
        "reasoning before a call, and again": [
            *thought("1"),
            *call("c"),
            ("TOOL_CALL_RESULT", "c"),
            *thought("2"),
            *text("3"),
        ],
        "broken off in reasoning": [*thought("1"), ("CANCELLED", "")],
        "broken off in a call": [*text("1"), *call("c", '{"a": '), ("CANCELLED", "")],
        "broken off in a component beside text": [
            *shown("x"),
            *text("1")[:2],
            ("ACTIVITY_DELTA", "x", "/status", "cancelled"),
            text("1")[2],
            ("CANCELLED", ""),
        ],
        "a component before text, and one after": [
            *shown("x"),
            *text("1"),
            ("ACTIVITY_DELTA", "x", "/status", "done"),
            *text("2"),
            *shown("y"),
            ("ACTIVITY_DELTA", "y", "/status", "invalid"),
            *text("3"),
        ],
        "made again by another process": [
            *text("1"),
            *call("c"),
            *shown("x"),
            ("SUPERSEDED", ""),
            *state,
            *text("2"),
            *call("d"),
            ("TOOL_CALL_RESULT", "d"),
        ],
        "nothing": [],
        "an error at once": [("RUN_ERROR", "")],
    }
    waiting = iter(logs.values())

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        dialect = Dialect(uuid7(), uuid7())
        log = [canonical("RUN_STARTED", ""), *(canonical(*one) for one in next(waiting))]
        if log[-1]["type"] not in ("RUN_FINISHED", "RUN_ERROR"):
            log.append(canonical("RUN_FINISHED", ""))
        said = [one for event in log for one in dialect.told(json.dumps(event).encode())]
        body = b"".join(b"data: " + json.dumps(one).encode() + b"\n\n" for one in said)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        await send({"type": "http.response.body", "body": body})

    async with on_socket(app) as url:
        task = {"url": url, "key": "ik_sk_any", "steps": [{"run": name} for name in logs]}
        told = await javascript.script("tambo", task)
    assert told["warnings"] == []
    for name, run in zip(logs, told["found"], strict=True):
        assert "thread" in run, (name, run)
        messages = run["thread"]["messages"]
        assert len({message["id"] for message in messages}) == len(messages), name
        assert run["thread"]["status"] == "idle", name
    shapes = {
        name: [[block["type"] for block in message["content"]] for message in run["thread"]["messages"][1:]]
        for name, run in zip(logs, told["found"], strict=True)
    }
    assert shapes["text around calls"] == [["text", "tool_use", "text"], ["tool_result"], ["text"]]
    assert shapes["a component before text, and one after"] == [["component", "text"], ["text", "component"], ["text"]]
    assert shapes["reasoning alone"] == [[]]


def text(name: str) -> Log:
    return [("TEXT_MESSAGE_START", name), ("TEXT_MESSAGE_CONTENT", name, "So: "), ("TEXT_MESSAGE_END", name)]


def thought(name: str) -> Log:
    said = [("REASONING_START", name), ("REASONING_MESSAGE_START", name), ("REASONING_MESSAGE_CONTENT", name, "Hm.")]
    return [*said, ("REASONING_MESSAGE_END", name), ("REASONING_END", name)]


def call(name: str, arguments: str = "{}") -> Log:
    return [("TOOL_CALL_START", name), ("TOOL_CALL_ARGS", name, arguments), ("TOOL_CALL_END", name)]


def shown(name: str) -> Log:
    return [("ACTIVITY_SNAPSHOT", name), ("ACTIVITY_DELTA", name, "/props/place", "Par")]


def canonical(kind: str, name: str, *more: str) -> Told:
    """An event of a run's log."""
    event: Told = {"type": kind, "timestamp": 1, "messageId": name, "toolCallId": name}
    if kind in ("CANCELLED", "RUN_FINISHED"):
        outcome = {"type": "cancelled" if kind == "CANCELLED" else "success"}
        return {"type": "RUN_FINISHED", "threadId": "t", "runId": "r", "outcome": outcome, "timestamp": 1}
    if kind == "RUN_ERROR":
        return {"type": kind, "code": "model_timeout", "message": "It said nothing.", "timestamp": 1}
    if kind == "SUPERSEDED":
        value = {"messageIds": ["t"], "toolCallIds": ["c"]}
        return {"type": "CUSTOM", "name": "innkeeper.superseded", "value": value, "timestamp": 1}
    if kind == "TOOL_CALL_RESULT":
        return {**event, "messageId": f"result of {name}", "content": "done"}
    if kind == "TOOL_CALL_START":
        return {**event, "toolCallName": "tool", "parentMessageId": f"answer with {name}"}
    if kind == "ACTIVITY_SNAPSHOT":
        content: Told = {"name": "Weather", "status": "streaming", "props": {}, "streaming": {}, "state": None}
        return {**event, "activityType": "innkeeper.component", "content": content}
    if kind == "ACTIVITY_DELTA":
        patch = [{"op": "add" if more[0].startswith("/props") else "replace", "path": more[0], "value": more[1]}]
        return {**event, "activityType": "innkeeper.component", "patch": patch}
    return {**event, "delta": more[0]} if more else event
