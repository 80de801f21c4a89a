"""Defects in HTTP, JSON-RPC, headers and versions."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.types import ASGIApp

from tests.conformance import controls
from tests.conformance.breaking import Answered, Asked, spoiled
from tests.conformance.controls import MODERN
from tests.conformance.defects import answering, defect, exchange_of, method_of


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
