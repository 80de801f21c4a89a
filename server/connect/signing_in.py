"""Signing in from a terminal: the device flow (RFC 8628), and the tokens that it gives, kept in a file of the person's.

The file holds what the token endpoint answered, by the address of the house, and when the access token ends. Refreshing
needs no lock: the house lets several processes exchange one refresh token at once, and gives all the same successor.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path
from time import time
from typing import Any, Final
from urllib.parse import urlsplit

import httpx2

from server.connect.files import locked, write_private
from server.http.address import is_loopback
from server.refusal import Refusal
from server.terminal import note, put

ENDPOINT: Final = "/mcp"
"""Of every house."""
HOUSE_CLIENT: Final = "innkeeper-cli"
DEVICE_CODE: Final = "urn:ietf:params:oauth:grant-type:device_code"
SECONDS: Final = 15.0
SLOWER: Final = 5.0
EARLY: Final = 60.0
"""An access token that ends within so many seconds is refreshed before it is used."""
Tokens = dict[str, Any]
Http = httpx2.AsyncClient
HttpFault = httpx2.HTTPError


@dataclass(frozen=True, slots=True)
class TokenFile:
    """Tokens by address, mode 0600."""

    path: Path

    @classmethod
    def usual(cls, home: Path) -> TokenFile:
        return cls(home / ".config" / "innkeeper" / "tokens.json")

    def get(self, url: str) -> Tokens | None:
        found = self._read().get(url)
        return found if isinstance(found, dict) and isinstance(found.get("access_token"), str) else None

    def put(self, url: str, tokens: Tokens) -> None:
        with locked(self.path):
            write_private(self.path, json.dumps({**self._read(), url: tokens}, indent=2) + "\n")

    def drop(self, url: str) -> None:
        with locked(self.path):
            kept = {known: tokens for known, tokens in self._read().items() if known != url}
            write_private(self.path, json.dumps(kept, indent=2) + "\n")

    def urls(self) -> list[str]:
        return [url for url in self._read() if self.get(url) is not None]

    def _read(self) -> dict[str, Any]:
        try:
            found = json.loads(self.path.read_text())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError):
            found = None
        if not isinstance(found, dict):
            raise Refusal(f"{self.path} cannot be read: mend it, or delete it and sign in again.")
        return found


def client() -> httpx2.AsyncClient:
    return httpx2.AsyncClient(timeout=SECONDS)


async def metadata(http: httpx2.AsyncClient, url: str) -> dict[str, Any]:
    """What the house says of itself (RFC 8414). Raises :class:`Refusal` where no Innkeeper answers."""
    try:
        answer = await http.get(f"{url}/.well-known/oauth-authorization-server")
        found = answer.raise_for_status().json()
        if not isinstance(found, dict) or not {"token_endpoint", "device_authorization_endpoint"} <= found.keys():
            raise ValueError
    except (httpx2.HTTPError, ValueError) as error:
        raise Refusal(
            f"{url} does not answer as an Innkeeper does ({type(error).__name__}): check it with "
            f"'innkeeper doctor --mcp {url}/mcp'."
        ) from None
    return found


async def sign_in(http: httpx2.AsyncClient, url: str, scope: str = "") -> Tokens:
    """Show an address and wait until somebody has decided there. Raises :class:`Refusal`."""
    if url.startswith("http:") and not is_loopback(url):
        note(f"Everybody on the way to {url} can read the tokens: use https where you can.")
    house = await metadata(http, url)
    form = {"client_id": HOUSE_CLIENT} | ({"scope": scope} if scope else {})
    status, device = await _post(http, house["device_authorization_endpoint"], form)
    if status != httpx2.codes.OK:
        raise Refusal(str(device.get("error_description", "The server refused.")))
    note(f"Open this in a browser, and check that it shows the code {device['user_code']}:")
    put(device["verification_uri_complete"])
    note("If the page asks you to sign in and no mail can be sent: 'innkeeper open', where the server runs.")
    form = {"client_id": HOUSE_CLIENT, "grant_type": DEVICE_CODE, "device_code": device["device_code"]}
    return await _wait(http, house["token_endpoint"], form, float(device["interval"]), float(device["expires_in"]))


async def _wait(http: httpx2.AsyncClient, url: str, form: dict[str, str], interval: float, left: float) -> Tokens:
    """Ask until there is an answer, also over a restart of the house (RFC 8628 3.5), for as long as the code holds."""
    while (left := left - interval) > 0:
        await asyncio.sleep(interval)
        try:
            status, told = await _post(http, url, form)
        except Unanswered:
            interval += SLOWER
            continue
        if status == httpx2.codes.OK:
            return _dated(told)
        if told.get("error") == "slow_down":
            interval += SLOWER
        elif told.get("error") != "authorization_pending":
            raise Refusal(str(told.get("error_description", "Nobody let this terminal in.")))
    raise Refusal("Nobody decided in time. Begin anew with another code.")


async def fresh(http: httpx2.AsyncClient, file: TokenFile, url: str, *, force: bool = False) -> Tokens | None:
    """The kept tokens, refreshed where that is due (or when ``force``); ``None`` when they are worth nothing any
    more."""
    tokens = file.get(url)
    if tokens is None or (not force and float(tokens.get("expires_at", 0)) > time() + EARLY):
        return tokens
    if not isinstance(tokens.get("refresh_token"), str):
        return None
    house = await metadata(http, url)
    form = {"client_id": HOUSE_CLIENT, "grant_type": "refresh_token", "refresh_token": tokens["refresh_token"]}
    status, told = await _post(http, house["token_endpoint"], form)
    if status == httpx2.codes.OK:
        file.put(url, _dated(told))
        return file.get(url)
    if told.get("error") == "invalid_grant":
        return None
    raise Refusal(f"{url} could not refresh the sign-in ({status}): try again.")


async def revoke(http: httpx2.AsyncClient, url: str, tokens: Tokens) -> bool:
    """End the grant (RFC 7009). False when the house could not be told."""
    try:
        house = await metadata(http, url)
        form = {"client_id": HOUSE_CLIENT, "token": tokens.get("refresh_token") or tokens["access_token"]}
        return (await _post(http, house["revocation_endpoint"], form))[0] == httpx2.codes.OK
    except (Refusal, KeyError):
        return False


def address(text: str) -> str:
    """The house of an address, which may be that of its endpoint. Raises :class:`Refusal`."""
    try:
        parts = urlsplit(text)
        if parts.scheme in ("http", "https") and parts.hostname and parts.port != 0 and "@" not in parts.netloc:
            return f"{parts.scheme}://{parts.netloc}"
    except ValueError:
        pass
    raise Refusal(f"{text} is not an address: give http(s)://HOST[:PORT].")


class Unanswered(Refusal):
    """The house did not answer, or something else did in its place; it may when it is asked again."""


async def _post(http: httpx2.AsyncClient, url: str, form: dict[str, str]) -> tuple[int, dict[str, Any]]:
    """The status and the JSON object that came. Raises :class:`Unanswered`."""
    host = urlsplit(url).netloc
    try:
        answer = await http.post(url, data=form)
        told = answer.json()
    except (httpx2.HTTPError, ValueError) as error:
        raise Unanswered(f"{host} does not answer as an Innkeeper does ({type(error).__name__}).") from None
    if not isinstance(told, dict):
        raise Unanswered(f"{host} does not answer as an Innkeeper does ({answer.status_code}).")
    return answer.status_code, told


def _dated(told: Tokens) -> Tokens:
    return {**told, "expires_at": int(time() + float(told.get("expires_in", 0)))}
