"""``/mcp`` as one ASGI application: who calls, narrowed to what, with which bytes; then a lane answers.

The engine calls this object directly (``build(services)``, also ``app.state.mcp_app``) over ASGI in-process, with the
run's grant in the scope: no Host check, no limit of the socket edge, no lifespan, no task running around it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import lru_cache, partial
from typing import Protocol

from mcp_types import INVALID_REQUEST, ErrorData
from starlette.datastructures import QueryParams
from starlette.types import Receive, Scope, Send

from db.errors import AppError, unauthenticated
from db.principal import Principal
from server.http.fields import Fields, fields_of
from server.http.heads import BODY_KEY
from server.http.problem import send_problem
from server.keyring import Keyring
from server.mcp.asking import Asking
from server.mcp.bearer import Authenticator, principal_of, recalled, sent_credentials
from server.mcp.exchange import Exchange, failure
from server.mcp.fast_lane import FastLane
from server.mcp.handlers import build_server
from server.mcp.inbound import Answer, Inbound, Lane, LongAnswer, send_answer
from server.mcp.pacing import paced, refused
from server.mcp.resource import ProtectedResource
from server.mcp.results import describe
from server.mcp.step_up import stepped_up
from tools.catalog import Catalog
from tools.dispatch import Dispatch
from tools.limits import Limits
from tools.narrowing import Narrowing

ONLY_POST = ((b"allow", b"POST"),)
NOT_A_POST = AppError(
    "method_not_allowed",
    405,
    "This endpoint answers POST only: it is stateless and opens no stream.",
    "POST each message; a call that takes long is answered with a stream of its own.",
)
NOT_JSON = AppError(
    "content_type_not_supported",
    415,
    "Content-Type must be application/json.",
    "Send Content-Type: application/json and one JSON-RPC message.",
)
NO_JSON_TAKEN = AppError(
    "answer_not_acceptable",
    406,
    "Accept must include application/json.",
    "Send Accept: application/json, text/event-stream.",
)


ENDED = "The access token that this stream was opened with has been revoked."


class EndpointServices(Protocol):
    """What the endpoint needs of ``server.services.Services``."""

    @property
    def authenticator(self) -> Authenticator: ...

    @property
    def dispatch(self) -> Dispatch: ...

    @property
    def catalog(self) -> Catalog: ...

    @property
    def keyring(self) -> Keyring: ...

    @property
    def public_url(self) -> str | None: ...


def build(services: EndpointServices) -> McpEndpoint:
    """The endpoint over ``services``. Cheap, holds no connection; one per process is enough."""
    server = build_server(services.catalog, services.dispatch, Asking(services.keyring))
    exchange = Exchange(server, services.catalog)
    lanes = (FastLane(services.dispatch, server, exchange), exchange)
    return McpEndpoint(
        services.authenticator,
        services.dispatch.services.limits,
        ProtectedResource(services.public_url),
        lanes,
        services.catalog,
    )


class McpEndpoint:
    """An ASGI application. ``lanes`` are asked in order; the last one must answer everything."""

    def __init__(
        self,
        authenticator: Authenticator,
        limits: Limits,
        resource: ProtectedResource,
        lanes: Sequence[Lane],
        catalog: Catalog,
    ) -> None:
        self.authenticator = authenticator
        self.limits = limits
        self.resource = resource
        self.lanes = tuple(lanes)
        self._asking: set[asyncio.Task[None]] = set()
        self._narrowing_of = lru_cache(maxsize=256)(partial(narrowing_of, catalog))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        fields = fields_of(scope)
        try:
            principal = recalled(scope, self.authenticator) or await principal_of(scope, self.authenticator)
            if not self.limits.at_once(principal):
                await self.limits.admit(principal)
        except AppError as error:
            await self._refuse_caller(scope, send, error)
            return
        narrowing = fields.known.get(self) or self._narrowing(scope, fields)
        if isinstance(narrowing, Answer):
            await send_answer(scope, send, narrowing)
            return
        try:
            principal = narrowing.of(principal)
        except AppError as error:
            await send_answer(scope, send, _narrowing_failure(error))
            return
        body = scope.get(BODY_KEY) or await read_body(receive)
        if body is None:
            return
        inbound = Inbound(principal, narrowing, scope["headers"], body, fields)
        scope["innkeeper.log"] = inbound.notes
        try:
            place = self.limits.place(principal)
            if not place.at_once():
                await place.take()
            try:
                answer = await self._answer(inbound, scope)
            finally:
                place.give_back()
            if not isinstance(answer, Answer):
                async with self.limits.place(principal, long=True):
                    await self._send_long(answer, principal, receive, send)
                return
        except AppError as error:
            answer = refused(error)
        if answer.status == 429:
            await self.limits.hold(principal)
        await send_answer(scope, send, answer)

    async def _send_long(self, answer: LongAnswer, principal: Principal, receive: Receive, send: Send) -> None:
        """For as long as the caller's credential lives. Raises ``AppError`` when it ended before it was watched."""
        with self.authenticator.watching(principal, partial(self._doubt, answer, principal)):
            if not await self.authenticator.still_valid(principal):
                raise unauthenticated(ENDED)
            await answer.send(receive, send)

    def _doubt(self, answer: LongAnswer, principal: Principal, certain: bool) -> None:
        """The credential that a stream is open on may have ended; ``certain``: it has, for this stream."""
        if certain:
            answer.end(unauthenticated(ENDED))
            return
        asking = asyncio.create_task(self._ask(answer, principal), name="mcp-still-valid")
        self._asking.add(asking)
        asking.add_done_callback(self._asking.discard)

    async def _ask(self, answer: LongAnswer, principal: Principal) -> None:
        try:
            if not await self.authenticator.still_valid(principal):
                answer.end(unauthenticated(ENDED))
        except AppError as error:  # nobody can say: the client may come again, and is asked who it is
            answer.end(error)

    def _narrowing(self, scope: Scope, fields: Fields) -> Narrowing | Answer:
        """What the URL of a request narrows it to, kept for heads like this one; or what is wrong with its head."""
        fault = _request_fault(scope)
        if fault is not None:
            return fault
        try:
            narrowing = fields.known[self] = self._narrowing_of(scope["query_string"])
        except AppError as error:
            return _narrowing_failure(error)
        return narrowing

    async def _answer(self, inbound: Inbound, scope: Scope) -> Answer | LongAnswer:
        for lane in self.lanes:
            answer = await lane.answer(inbound)
            if isinstance(answer, Answer) and "error" in inbound.notes:
                return paced(stepped_up(answer, inbound, self.resource, scope), inbound)
            if answer is not None:
                return answer
        raise RuntimeError("the last lane must answer everything")

    async def _refuse_caller(self, scope: Scope, send: Send, error: AppError) -> None:
        if error.status == 429:
            await send_answer(scope, send, refused(error))
            return
        if error.status != 401:
            await send_problem(send, error)
            return
        challenge = self.resource.challenge(scope, token_was_sent=sent_credentials(scope))
        await send_problem(send, error, [(b"www-authenticate", challenge)])


async def read_body(receive: Receive) -> bytes | None:
    """The whole request body; ``None`` when the client went away before its end. The edge bounds its size."""
    message = await receive()
    chunks: list[bytes] = []
    while message["type"] == "http.request":
        chunk: bytes = message.get("body", b"")
        if not message.get("more_body", False):
            return b"".join([*chunks, chunk]) if chunks else chunk
        chunks.append(chunk)
        message = await receive()
    return None


def narrowing_of(catalog: Catalog, query_string: bytes) -> Narrowing:
    """``?project=``, ``?tools=`` and ``?read_only=`` of a URL. Raises ``AppError`` 400, for an unknown family too."""
    narrowing = Narrowing.parse(QueryParams(query_string))
    catalog.offered(narrowing.families)
    return narrowing


def _request_fault(scope: Scope) -> Answer | None:
    """What is wrong with the request before its body is looked at (Streamable HTTP, both eras)."""
    if scope["method"] != "POST":
        # No GET stream and no session to DELETE: this server is stateless in both eras.
        return _failure(NOT_A_POST, ONLY_POST)
    fields = fields_of(scope)
    if not is_json(fields.get(b"content-type", b"")):
        return _failure(NOT_JSON)
    accept = fields.get(b"accept", b"")
    if b"accept" in fields.repeated:
        accept = b",".join(value for name, value in scope["headers"] if name == b"accept")
    if not accepts_json(accept):
        return _failure(NO_JSON_TAKEN)
    return None


@lru_cache(maxsize=64)
def is_json(content_type: bytes) -> bool:
    """Whether a Content-Type is JSON, whatever its parameters."""
    return content_type.split(b";", 1)[0].strip().lower() == b"application/json"


@lru_cache(maxsize=256)
def accepts_json(accept: bytes) -> bool:
    """Whether an Accept header takes JSON (RFC 9110, 12.5.1); the specification makes clients send one."""
    ranges = {part.split(b";", 1)[0].strip().lower() for part in accept.split(b",")}
    return not ranges.isdisjoint((b"application/json", b"application/*", b"*/*"))


def _failure(error: AppError, headers: tuple[tuple[bytes, bytes], ...] = ()) -> Answer:
    answer = failure(None, ErrorData(code=INVALID_REQUEST, message=error.message, data=describe(error)), error.status)
    return Answer(answer.status, answer.body, headers)


def _narrowing_failure(error: AppError) -> Answer:
    message = f"{error.message} {error.hint}" if error.hint else error.message
    return failure(None, ErrorData(code=INVALID_REQUEST, message=message, data=describe(error)), 400)
