"""Defects in results, streams and questions to the client."""

from __future__ import annotations

import random

from starlette.applications import Starlette
from starlette.types import ASGIApp

from tests.conformance import controls
from tests.conformance.breaking import Answered, Asked, spoiled
from tests.conformance.controls import HANDSHAKE
from tests.conformance.defects import answering, defect, method_of


@defect("input-required-result-result-type")
def results_do_not_say_their_type(app: Starlette) -> ASGIApp:
    def outward(asked: Asked, answered: Answered) -> None:
        answered.result.pop("resultType", None)

    return spoiled(app, outward=outward)


@defect("server-initialize", HANDSHAKE)
def initialize_forgets_who_the_server_is(app: Starlette) -> ASGIApp:
    return answering(app, "initialize", lambda answered: answered.result.pop("serverInfo", None))


@defect("ping", HANDSHAKE)
def ping_is_unknown(app: Starlette) -> ASGIApp:
    def change(answered: Answered) -> None:
        answered.message = {"jsonrpc": "2.0", "id": answered.message["id"], "error": {"code": -32601, "message": "No"}}

    return answering(app, "ping", change)


@defect("tools-list")
def tools_are_listed_without_their_schema(app: Starlette) -> ASGIApp:
    def change(answered: Answered) -> None:
        for tool in answered.result.get("tools", ()):
            del tool["inputSchema"]

    return answering(app, "tools/list", change)


@defect("tools-list")
def tools_are_listed_in_any_order(app: Starlette) -> ASGIApp:
    shuffle = random.Random(7).shuffle
    return answering(app, "tools/list", lambda answered: shuffle(answered.result["tools"]))


@defect(controls.a_tool_is_listed_with_all_four_hints)
def a_hint_is_forgotten(app: Starlette) -> ASGIApp:
    def change(answered: Answered) -> None:
        for tool in answered.result.get("tools", ()):
            tool["annotations"].pop("destructiveHint")

    return answering(app, "tools/list", change)


@defect("tools-call-error")
def a_failed_tool_looks_like_a_success(app: Starlette) -> ASGIApp:
    def change(answered: Answered) -> None:
        if answered.result:
            answered.result["isError"] = False

    return answering(app, "tools/call", change)


@defect(controls.an_unknown_tool_is_a_protocol_error)
def an_unknown_tool_is_a_success(app: Starlette) -> ASGIApp:
    def change(answered: Answered) -> None:
        if answered.error:
            answered.message = {"jsonrpc": "2.0", "id": answered.message["id"], "result": {"content": []}}

    return answering(app, "tools/call", change)


@defect("sep-2164-resource-not-found")
def a_missing_resource_is_an_empty_one(app: Starlette) -> ASGIApp:
    def change(answered: Answered) -> None:
        empty = {"resultType": "complete", "contents": [], "ttlMs": 0, "cacheScope": "private"}
        answered.message = {"jsonrpc": "2.0", "id": answered.message["id"], "result": empty}

    return answering(app, "resources/read", change)


@defect("sep-2164-resource-not-found")
def a_missing_resource_has_the_code_of_the_last_era(app: Starlette) -> ASGIApp:
    def change(answered: Answered) -> None:
        if answered.error:
            answered.error["code"] = -32002

    return answering(app, "resources/read", change)


@defect("caching")
def lists_do_not_say_how_long_they_hold(app: Starlette) -> ASGIApp:
    return answering(app, "tools/list", lambda answered: answered.result.pop("ttlMs", None))


@defect("tools-call-with-progress")
def progress_is_lost(app: Starlette) -> ASGIApp:
    return spoiled(app, keeps=lambda event: b"notifications/progress" not in event)


@defect("tools-call-with-logging", HANDSHAKE)
def streams_are_not_offered(app: Starlette) -> ASGIApp:
    return spoiled(app, inward=lambda asked: asked.put("accept", "application/json"))


@defect("input-required-result-tampered-state")
def state_that_was_tampered_with_is_taken(app: Starlette) -> ASGIApp:
    def inward(asked: Asked) -> None:
        if method_of(asked) == "tools/call" and "requestState" in asked.message["params"]:
            state = asked.message["params"]["requestState"]
            asked.message["params"]["requestState"] = state.removesuffix("-TAMPERED")

    return spoiled(app, inward=inward)


@defect("input-required-result-capability-check")
def clients_are_asked_what_they_cannot_answer(app: Starlette) -> ASGIApp:
    def inward(asked: Asked) -> None:
        if method_of(asked) == "tools/call":
            asked.message["params"]["_meta"]["io.modelcontextprotocol/clientCapabilities"] = {"elicitation": {}}

    return spoiled(app, inward=inward)


@defect("server-stateless")
def subscriptions_get_what_nobody_asked_for(app: Starlette) -> ASGIApp:
    def inward(asked: Asked) -> None:
        if method_of(asked) == "subscriptions/listen":
            asked.message["params"]["notifications"] = {"toolsListChanged": True, "promptsListChanged": True}

    return spoiled(app, inward=inward)


@defect("input-required-result-validate-input")
def what_a_client_answers_is_not_checked(app: Starlette) -> ASGIApp:
    def inward(asked: Asked) -> None:
        if method_of(asked) == "tools/call" and "inputResponses" in asked.message["params"]:
            said = {"action": "accept", "content": {"name": "Alice"}}
            asked.message["params"]["inputResponses"] = {"user_name": said}

    return spoiled(app, inward=inward)


@defect("input-required-result-missing-input-response")
def a_missing_answer_is_an_error(app: Starlette) -> ASGIApp:
    def outward(asked: Asked, answered: Answered) -> None:
        if method_of(asked) == "tools/call" and "inputResponses" in asked.message["params"]:
            answered.message = {
                "jsonrpc": "2.0",
                "id": answered.message["id"],
                "error": {"code": -32602, "message": "An answer is missing"},
            }

    return spoiled(app, outward=outward)
