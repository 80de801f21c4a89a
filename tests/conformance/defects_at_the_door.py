"""Defects in who may come in, and what a caller may see and do."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from starlette.applications import Starlette
from starlette.types import ASGIApp

from db.scopes import ALL_SCOPES
from tests.conformance import controls
from tests.conformance.breaking import Answered, Asked, spoiled
from tests.conformance.controls import HANDSHAKE
from tests.conformance.defects import answering, defect


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

        def recall(self, known_as: bytes) -> None:
            """Ask."""

        still_valid = real.still_valid

    endpoint.authenticator = Credulous()
    return app


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

        def recall(self, known_as: bytes) -> None:
            """Ask."""

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
