"""The lane before the SDK's: the commonest requests from bytes to bytes, with one parse and one serialisation.

It answers calls of tools and lists that are in perfect order, in both eras, and leaves every other request and every
doubt to the lane behind it: ``None`` is always a right answer here. What a tool call does is decided by the function
that the SDK lane calls too; what a list says is cut out of that lane's own answer and kept. So the two cannot differ in
what they do, only in what they accept, and a test replays one corpus through both.

Sources: MCP 2025-11-25 and 2026-07-28, "Streamable HTTP", and ``mcp.shared.inbound`` for the headers.
"""

from __future__ import annotations

import marshal
from typing import Any, Final, NamedTuple, Protocol

from mcp.shared.inbound import x_mcp_header_map
from mcp_types import (
    CLIENT_CAPABILITIES_META_KEY,
    CLIENT_INFO_META_KEY,
    DEFAULT_NEGOTIATED_VERSION,
    PROTOCOL_VERSION_META_KEY,
    SERVER_INFO_META_KEY,
)
from mcp_types.methods import validate_client_request
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS, MODERN_PROTOCOL_VERSIONS
from pydantic import ValidationError
from pydantic_core import from_json, to_json

from server.http.fields import Fields
from server.mcp.calling import attempted, idempotency_key
from server.mcp.inbound import Answer, Inbound, Lane
from server.mcp.results import COMPLETE, LINKS_SINCE, printed
from tools.catalog import visible
from tools.contract import ToolSpec
from tools.dispatch import Dispatch

CALL: Final = "tools/call"
LISTS: Final = frozenset({"tools/list", "server/discover", "ping"})
"""Methods whose result depends on nothing but the revision and what the caller may see."""
RESERVED: Final = "io.modelcontextprotocol/"
KEPT: Final = 256
LONGEST_KEY: Final = 1024
LARGEST_ID: Final = 2**53

_MESSAGE: Final = frozenset({"jsonrpc", "id", "method", "params"})
_CALLED: Final = frozenset({"name", "arguments", "_meta"})
_LISTED: Final = frozenset({"_meta"})
_ENVELOPE: Final = frozenset({PROTOCOL_VERSION_META_KEY, CLIENT_CAPABILITIES_META_KEY, CLIENT_INFO_META_KEY})
_HANDSHAKE: Final = {version.encode(): version for version in HANDSHAKE_PROTOCOL_VERSIONS}
_MODERN: Final = {version.encode(): version for version in MODERN_PROTOCOL_VERSIONS}
_DEFAULT: Final = DEFAULT_NEGOTIATED_VERSION.encode()
_COMPLETE: Final = b'"resultType":%b,' % to_json(COMPLETE)
_NOTHING: Final[dict[str, Any]] = {}


class Stamped(Protocol):
    """The part of the SDK's server that says who it is."""

    @property
    def server_info_stamp(self) -> dict[str, Any]: ...


class Asked(NamedTuple):
    """A request that is in order. ``begins``: the answer's JSON up to its result."""

    method: str
    params: dict[str, Any]
    meta: dict[str, Any]
    begins: bytes


class FastLane:
    """Stands before ``behind``, which knows everything. ``server`` is the SDK's, over the same ``dispatch``."""

    def __init__(self, dispatch: Dispatch, server: Stamped, behind: Lane) -> None:
        self._dispatch = dispatch
        self._behind = behind
        self._stamp = server.server_info_stamp
        self._stamped = b",%b:%b" % (to_json(SERVER_INFO_META_KEY), to_json(self._stamp))
        self._tools = {
            name: (spec, name.encode())
            for spec in dispatch.catalog.tools
            for name in (spec.name, *spec.aliases)
            if answers(spec)
        }
        self._clients: set[bytes] = set()
        self._results: dict[tuple[object, ...], bytes] = {}

    async def answer(self, inbound: Inbound) -> Answer | None:
        """The answer, or ``None`` when the lane behind must be asked."""
        headers = inbound.fields
        if headers.repeated or b"mcp-session-id" in headers:
            return None
        asked = understood(inbound.body)
        if asked is None:
            return None
        given = headers.get(b"mcp-protocol-version", _DEFAULT)
        version = _HANDSHAKE.get(given)
        if version is None:
            version = _MODERN.get(given)
            if version is None or not self._agrees(version, headers.get(b"mcp-method"), asked):
                return None
        elif asked.meta and any(key.startswith(RESERVED) for key in asked.meta):
            return None
        if asked.method == CALL:
            return await self._call(inbound, headers, asked, version, modern=given in _MODERN)
        if asked.method in LISTS and asked.params.keys() <= _LISTED:
            return await self._list(inbound, version, asked)
        return None

    async def _call(
        self, inbound: Inbound, headers: Fields, asked: Asked, version: str, *, modern: bool
    ) -> Answer | None:
        params = asked.params
        name, arguments = params.get("name"), params.get("arguments", _NOTHING)
        if type(name) is not str or type(arguments) is not dict or not params.keys() <= _CALLED:
            return None
        spec, spelled = self._tools.get(name, (None, b""))
        if spec is None or (modern and headers.get(b"mcp-name") != spelled) or not visible(spec, inbound.principal):
            return None
        sent = headers.get(b"idempotency-key")
        key = idempotency_key(asked.meta, None if sent is None else sent.decode("latin-1"))
        result = await attempted(self._dispatch, inbound, name, arguments, key)
        if not isinstance(result, dict):
            begins, ends = (_COMPLETE, self._stamped) if modern else (b"", b"")
            links = version >= LINKS_SINCE
            return Answer(200, b"%b%b}" % (asked.begins, printed(result, begins, ends, links=links)))
        if modern:
            result["_meta"][SERVER_INFO_META_KEY] = self._stamp
        else:
            del result["resultType"]
        return Answer(200, b"%b%b}" % (asked.begins, to_json(result)))

    async def _list(self, inbound: Inbound, version: str, asked: Asked) -> Answer | None:
        who = inbound.principal
        bound = (who.project_id is not None, who.account_wide)
        key = (asked.method, version, who.scopes, who.read_only, bound, who.tools, inbound.narrowing.families)
        kept = self._results.get(key)
        if kept is not None:
            return Answer(200, asked.begins + kept)
        answer = await self._behind.answer(inbound)
        if not isinstance(answer, Answer):
            return None
        if answer.status == 200 and answer.body.startswith(asked.begins):
            if len(self._results) >= KEPT:
                del self._results[next(iter(self._results))]
            self._results[key] = answer.body[len(asked.begins) :]
        return answer

    def _agrees(self, version: str, method: bytes | None, asked: Asked) -> bool:
        """Whether the headers and the envelope of a modern request say the same, and the SDK finds what the envelope
        says of the client in order. It is asked once for each kind of client."""
        meta = asked.meta
        if meta.get(PROTOCOL_VERSION_META_KEY) != version or CLIENT_CAPABILITIES_META_KEY not in meta:
            return False
        if method is None or method != asked.method.encode():
            return False
        if not meta.keys() <= _ENVELOPE:
            meta = {key: value for key, value in meta.items() if key.startswith(RESERVED)}
        spelled = marshal.dumps(meta, 2)  # told apart by their types too, at half the price of JSON
        if spelled in self._clients:
            return True
        try:
            validate_client_request(CALL, version, {"name": CALL, "_meta": meta})
        except ValidationError:
            return False
        if len(spelled) <= LONGEST_KEY:
            if len(self._clients) >= KEPT:
                self._clients.clear()
            self._clients.add(spelled)
        return True


def answers(spec: ToolSpec) -> bool:
    """Whether calls of a tool get one whole answer, neither ask nor lead anybody, and have no headers to compare with
    arguments."""
    return (
        not (spec.may_ask or spec.opens or spec.takes_long or x_mcp_header_map(spec.input_schema))
        and spec.name.isascii()
    )


def understood(body: bytes) -> Asked | None:
    """A JSON-RPC request that both eras read alike: nothing unknown in it, and an id and a token that print alike."""
    try:
        message = from_json(body, allow_inf_nan=False)
    except ValueError:
        return None
    if type(message) is not dict or not message.keys() <= _MESSAGE or message.get("jsonrpc") != "2.0":
        return None
    method, params, request_id = message.get("method"), message.get("params"), message.get("id")
    if params is None:
        params = _NOTHING
    meta = params.get("_meta", _NOTHING) if type(params) is dict else None
    if type(method) is not str or type(meta) is not dict or not _names(request_id):
        return None
    if meta and not _names(meta.get("progressToken", 0)):
        return None
    spelled = b"%d" % request_id if type(request_id) is int else to_json(request_id)
    return Asked(method, params, meta, b'{"jsonrpc":"2.0","id":%b,"result":' % spelled)


def _names(value: object) -> bool:
    """Whether a value is an id or a token: a text, or an integer that no JSON reader rounds."""
    return type(value) is str or (type(value) is int and -LARGEST_ID < value < LARGEST_ID)
