"""Whether a client can find its way to a token: protected resource metadata (RFC 9728), then that of the authorization
server (RFC 8414), as MCP's authorization chapter has it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import Any, Final
from urllib.parse import urlsplit

from server.diagnosis.network import is_local
from server.diagnosis.wire import Reply, Wire, origin_of, shown
from server.finding import Finding, Verdict

RESOURCE: Final = "/.well-known/oauth-protected-resource"
SERVER: Final = ("/.well-known/oauth-authorization-server", "/.well-known/openid-configuration")


async def examine(wire: Wire, locked: Reply, *, has_token: bool) -> AsyncIterator[Finding]:
    """``locked``: the 401. Without a way to a token a connection cannot work, unless one is there (``has_token``)."""
    grave: Verdict = "warn" if has_token else "fault"
    challenge = locked.challenge
    named = challenge.get("resource_metadata")
    if "www-authenticate" not in locked.headers:
        said = (
            'The 401 has no WWW-Authenticate: older clients find no way to sign in; send Bearer resource_metadata="…".'
        )
        yield Finding("challenge", "warn", said)
    elif named is None:
        said = (
            "WWW-Authenticate names no resource_metadata (RFC 9728 5.1): older clients find no way to sign in; add it."
        )
        yield Finding("challenge", "warn", said)
    where, document = await _first(wire, [named] if named else resource_addresses(wire.url))
    if document is None:
        if named:
            said = f"The resource metadata that it names, {shown(named)}, is no JSON object: serve it there."
        else:
            said = (
                f"There is no resource metadata at {RESOURCE}: clients cannot sign in; serve it, or give them a token."
            )
        yield Finding("resource", grave, said)
        return
    async for finding in _resource(wire.url, where, document):
        yield finding
    servers = document.get("authorization_servers")
    if not isinstance(servers, list) or not servers or not isinstance(servers[0], str):
        said = "The resource metadata names no authorization_servers: clients cannot sign in; add the issuer."
        yield Finding("resource", grave, said)
        return
    async for finding in _server(wire, servers[0], grave):
        yield finding


def resource_addresses(url: str) -> list[str]:
    """RFC 9728 3.1, and the root form that MCP clients try next."""
    path = urlsplit(url).path.rstrip("/")
    return list(dict.fromkeys((origin_of(url) + RESOURCE + path, origin_of(url) + RESOURCE)))


def server_addresses(issuer: str) -> list[str]:
    """RFC 8414 3.1 with the path at the end, then both places of OpenID discovery."""
    parts = urlsplit(issuer)
    base, path = f"{parts.scheme}://{parts.netloc}", parts.path.rstrip("/")
    found = [base + known + path for known in SERVER]
    return list(dict.fromkeys((*found, base + path + SERVER[1])))


async def _resource(url: str, where: str, document: dict[str, Any]) -> AsyncIterator[Finding]:
    told, meant = document.get("resource"), url.partition("?")[0].partition("#")[0]
    if told == meant:
        yield Finding("resource", "ok", f"{urlsplit(where).path} names {meant}")
        return
    if not isinstance(told, str):
        yield Finding(
            "resource", "fault", f"The resource metadata at {shown(where)} names no resource: it must be {meant}."
        )
        return
    near = origin_of(told) == origin_of(meant) and urlsplit(meant).path.startswith(urlsplit(told).path.rstrip("/"))
    said = f"The resource metadata names {shown(told)}, but the address is {meant}: "
    advice = (
        "some clients refuse that; make them equal."
        if near
        else "clients refuse that; set the server's public address."
    )
    yield Finding("resource", "warn" if near else "fault", said + advice)


async def _server(wire: Wire, issuer: str, grave: Verdict) -> AsyncIterator[Finding]:
    where, document = await _first(wire, server_addresses(issuer))
    if document is None:
        said = f"The authorization server {shown(issuer)} has no metadata (RFC 8414): start it, or name the right one."
        yield Finding("issuer", grave, said)
        return
    told = document.get("issuer")
    if isinstance(told, str) and told.rstrip("/") == issuer.rstrip("/") and told != issuer:
        said = "The issuer ends with a slash in one place and without in another: some clients refuse that."
        yield Finding("issuer", "warn", said)
    elif told != issuer:
        said = f"The authorization server calls itself {shown(str(told))}, the resource calls it {shown(issuer)}: "
        yield Finding("issuer", grave, said + "clients refuse that (RFC 8414 3.3); make them equal.")
    else:
        yield Finding("issuer", "ok", f"{shown(issuer)}, metadata at {urlsplit(where).path}")
    missing = [name for name in ("authorization_endpoint", "token_endpoint") if not isinstance(document.get(name), str)]
    if missing:
        said = f"The authorization server names no {' and no '.join(missing)}: clients cannot sign in; add it."
        yield Finding("issuer", grave, said)
    for name in ("authorization_endpoint", "token_endpoint"):
        parts = urlsplit(str(document.get(name, "")))
        if parts.scheme == "http" and not is_local(parts.hostname or ""):
            yield Finding("issuer", "warn", f"{name} is http://: most clients refuse it; use https://.")
    yield _pkce(document, grave)
    yield _registration(document, grave)


def _pkce(document: dict[str, Any], grave: Verdict) -> Finding:
    if "S256" in _list(document, "code_challenge_methods_supported"):
        return Finding("pkce", "ok", "S256")
    said = "code_challenge_methods_supported lacks S256: MCP clients refuse that; support PKCE (RFC 7636), say so."
    return Finding("pkce", grave, said)


def _registration(document: dict[str, Any], grave: Verdict) -> Finding:
    ways = []
    if document.get("client_id_metadata_document_supported") is True:
        ways.append("client id metadata documents")
    if isinstance(document.get("registration_endpoint"), str):
        ways.append("dynamic registration")
    if not ways:
        said = "Clients cannot register: let the operator make a client, and give its client_id (and secret) to yours."
        return Finding("registration", grave, said)
    methods = _list(document, "token_endpoint_auth_methods_supported")
    if methods and "none" not in methods:
        said = "token_endpoint_auth_methods_supported lacks none: clients without a secret cannot sign in; allow it."
        return Finding("registration", "warn", said)
    return Finding("registration", "ok", " and ".join(ways))


async def _first(wire: Wire, addresses: Iterable[str]) -> tuple[str, dict[str, Any] | None]:
    """The first of the addresses with a JSON object, and that."""
    for url in addresses:
        reply = await wire.get(url)
        found = reply.document if reply.status == 200 else None
        if isinstance(found, dict):
            return url, found
    return "", None


def _list(document: dict[str, Any], name: str) -> list[Any]:
    found = document.get(name)
    return found if isinstance(found, list) else []
