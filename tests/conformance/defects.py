"""The seeded defects: each breaks the profile in one way that a careless change could, and says what must notice.

``caught_by`` is a scenario of the official suite (run at ``revision``) or one of our negative controls.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from starlette.applications import Starlette
from starlette.types import ASGIApp

from db.scopes import ALL_SCOPES
from server.mcp.exchange import Exchange
from tests.conformance import controls
from tests.conformance.breaking import Answered, Asked, spoiled
from tests.conformance.controls import HANDSHAKE, MODERN, Control


@dataclass(frozen=True)
class Defect:
    seed: Callable[[Starlette], ASGIApp]
    caught_by: str | Control
    revision: str = MODERN

    @property
    def name(self) -> str:
        return self.seed.__name__


DEFECTS: list[Defect] = []


def defect(
    caught_by: str | Control, revision: str = MODERN
) -> Callable[[Callable[[Starlette], ASGIApp]], Callable[[Starlette], ASGIApp]]:
    def add(seed: Callable[[Starlette], ASGIApp]) -> Callable[[Starlette], ASGIApp]:
        DEFECTS.append(Defect(seed, caught_by, revision))
        return seed

    return add


def method_of(asked: Asked) -> str:
    return str(asked.message.get("method")) if isinstance(asked.message, dict) else ""


def exchange_of(app: Starlette) -> Exchange:
    exchange = app.state.mcp_app.lanes[-1]
    assert isinstance(exchange, Exchange)
    return exchange


def answering(app: Starlette, method: str, change: Callable[[Answered], None]) -> ASGIApp:
    """``app`` whose answers to ``method`` are changed."""

    def outward(asked: Asked, answered: Answered) -> None:
        if method_of(asked) == method:
            change(answered)

    return spoiled(app, outward=outward)


# Who may come in


@defect("dns-rebinding-protection")
def any_host_is_let_in(app: Starlette) -> ASGIApp:
    def inward(asked: Asked) -> None:
        asked.put("host", "localhost")
        asked.put("origin", None)

    return spoiled(app, inward=inward)


@defect("dns-rebinding-protection", HANDSHAKE)
def our_own_host_is_kept_out(app: Starlette) -> ASGIApp:
    return spoiled(app, inward=lambda asked: asked.put("host", "evil.example.com"))


@defect(controls.a_foreign_origin_is_403)
def the_origin_is_not_checked(app: Starlette) -> ASGIApp:
    return spoiled(app, inward=lambda asked: asked.put("origin", None))


@defect(controls.a_host_that_only_begins_like_ours_is_421)
def hosts_are_compared_by_their_beginning(app: Starlette) -> ASGIApp:
    def inward(asked: Asked) -> None:
        if asked.header("host").startswith("localhost"):
            asked.put("host", "localhost")

    return spoiled(app, inward=inward)


@defect(controls.a_call_without_a_token_is_401)
def a_missing_token_does_not_matter(app: Starlette) -> ASGIApp:
    def outward(asked: Asked, answered: Answered) -> None:
        if answered.status == 401:
            answered.status = 200

    return spoiled(app, outward=outward)


@defect(controls.the_401_says_where_tokens_come_from)
def the_challenge_is_missing(app: Starlette) -> ASGIApp:
    return spoiled(app, outward=lambda asked, answered: answered.put("www-authenticate", "Bearer"))


@defect(controls.an_invented_token_is_401)
def unknown_tokens_become_somebody(app: Starlette) -> ASGIApp:
    endpoint = app.state.mcp_app
    real = endpoint.authenticator

    class Credulous:
        known: Any = None

        async def authenticate(self, token: str) -> Any:
            self.known = await real.authenticate(token) or self.known
            return self.known

        still_valid = real.still_valid

    endpoint.authenticator = Credulous()
    return app


# What a caller may see and do


@defect(controls.a_key_that_reads_sees_no_tool_that_writes)
def a_tool_leaks_into_every_list(app: Starlette) -> ASGIApp:
    leaked = {"name": "delete_project", "description": "Delete.", "inputSchema": {"type": "object"}, "annotations": {}}

    def change(answered: Answered) -> None:
        if "tools" in answered.result:
            answered.result["tools"].append(leaked)

    return answering(app, "tools/list", change)


@defect(controls.a_key_that_reads_calls_no_tool_that_writes)
def scopes_are_not_looked_at(app: Starlette) -> ASGIApp:
    endpoint = app.state.mcp_app
    real = endpoint.authenticator

    class Generous:
        async def authenticate(self, token: str) -> Any:
            principal = await real.authenticate(token)
            return principal and replace(principal, scopes=ALL_SCOPES)

        still_valid = real.still_valid

    endpoint.authenticator = Generous()
    return app


@defect(controls.a_read_only_connection_lists_no_tool_that_writes)
def read_only_is_ignored(app: Starlette) -> ASGIApp:
    def inward(asked: Asked) -> None:
        asked.query = b""

    return spoiled(app, inward=inward)


@defect(controls.lists_are_private_to_their_caller)
def lists_may_be_cached_for_everyone(app: Starlette) -> ASGIApp:
    def outward(asked: Asked, answered: Answered) -> None:
        if "cacheScope" in answered.result:
            answered.result["cacheScope"] = "public"

    return spoiled(app, outward=outward)


# HTTP


@defect(controls.get_is_405)
def get_answers_200(app: Starlette) -> ASGIApp:
    def outward(asked: Asked, answered: Answered) -> None:
        if asked.method == "GET":
            answered.status = 200

    return spoiled(app, outward=outward)


@defect(controls.an_answer_is_json_and_says_so)
def answers_are_called_plain_text(app: Starlette) -> ASGIApp:
    return spoiled(app, outward=lambda asked, answered: answered.put("content-type", "text/plain"))


@defect(controls.a_body_that_does_not_say_json_is_415)
def any_content_type_is_taken(app: Starlette) -> ASGIApp:
    return spoiled(app, inward=lambda asked: asked.put("content-type", "application/json"))


@defect(controls.a_notification_is_202_without_a_body)
def notifications_are_answered(app: Starlette) -> ASGIApp:
    def outward(asked: Asked, answered: Answered) -> None:
        if answered.status == 202:
            answered.status, answered.message = 200, {"jsonrpc": "2.0", "id": None, "result": {}}

    return spoiled(app, outward=outward)


@defect(controls.no_session_is_opened)
def a_session_is_opened(app: Starlette) -> ASGIApp:
    return answering(app, "initialize", lambda answered: answered.put("mcp-session-id", "1"))


@defect(controls.an_unknown_method_is_404_in_the_modern_era)
def an_unknown_method_is_200(app: Starlette) -> ASGIApp:
    def outward(asked: Asked, answered: Answered) -> None:
        if answered.status == 404:
            answered.status = 200

    return spoiled(app, outward=outward)


# JSON-RPC and versions


@defect(controls.a_batch_is_refused_since_2025_06_18)
def batches_are_taken_in_every_version(app: Starlette) -> ASGIApp:
    def inward(asked: Asked) -> None:
        if isinstance(asked.message, list):
            asked.put("mcp-protocol-version", "2025-03-26")

    return spoiled(app, inward=inward)


@defect(controls.a_body_that_is_not_json_is_a_parse_error)
def a_parse_error_has_the_code_of_another_fault(app: Starlette) -> ASGIApp:
    def outward(asked: Asked, answered: Answered) -> None:
        if answered.error.get("code") == -32700:
            answered.error["code"] = -32603

    return spoiled(app, outward=outward)


@defect(controls.an_unknown_handshake_version_is_negotiated_down)
def the_version_of_the_client_is_echoed(app: Starlette) -> ASGIApp:
    def outward(asked: Asked, answered: Answered) -> None:
        if method_of(asked) == "initialize":
            answered.result["protocolVersion"] = asked.message["params"]["protocolVersion"]

    return spoiled(app, outward=outward)


@defect("server-stateless")
def unknown_modern_versions_are_served(app: Starlette) -> ASGIApp:
    def inward(asked: Asked) -> None:
        if asked.header("mcp-protocol-version") == "v999.0.0":
            asked.put("mcp-protocol-version", MODERN)
            asked.message["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"] = MODERN

    return spoiled(app, inward=inward)


@defect(controls.an_error_carries_the_id_of_its_request)
def errors_lose_the_id_of_their_request(app: Starlette) -> ASGIApp:
    def outward(asked: Asked, answered: Answered) -> None:
        if answered.error:
            answered.message["id"] = 0

    return spoiled(app, outward=outward)


@defect("http-header-validation")
def the_method_header_is_not_compared(app: Starlette) -> ASGIApp:
    def inward(asked: Asked) -> None:
        if asked.header("mcp-protocol-version") == MODERN:
            asked.put("mcp-method", method_of(asked))

    return spoiled(app, inward=inward)


@defect("http-header-validation")
def the_name_header_is_not_compared(app: Starlette) -> ASGIApp:
    def inward(asked: Asked) -> None:
        if method_of(asked) == "tools/call":
            asked.put("mcp-name", asked.message["params"]["name"])

    return spoiled(app, inward=inward)


@defect("http-custom-header-server-validation")
def parameter_headers_are_not_compared(app: Starlette) -> ASGIApp:
    exchange_of(app).server.get_tool_input_schema = None
    return app


@defect("http-header-validation")
def a_header_mismatch_has_another_code(app: Starlette) -> ASGIApp:
    def outward(asked: Asked, answered: Answered) -> None:
        if answered.error.get("code") == -32020:
            answered.error["code"] = -32600

    return spoiled(app, outward=outward)


# Results


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


# Streams and questions to the client


@defect("tools-call-with-progress")
def progress_is_lost(app: Starlette) -> ASGIApp:
    return spoiled(app, keeps=lambda event: b"notifications/progress" not in event)


@defect("tools-call-with-logging", HANDSHAKE)
def streams_are_not_offered(app: Starlette) -> ASGIApp:
    return spoiled(app, inward=lambda asked: asked.put("accept", "application/json"))


@defect("input-required-result-tampered-state")
def state_that_was_tampered_with_is_taken(app: Starlette) -> ASGIApp:
    exchange_of(app).server.middleware.clear()
    return app


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
