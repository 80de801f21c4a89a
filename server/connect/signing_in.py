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

from server.connect.files import write_private
from server.refusal import Refusal
from server.terminal import note, put

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
        write_private(self.path, json.dumps({**self._read(), url: tokens}, indent=2) + "\n")

    def drop(self, url: str) -> None:
        write_private(self.path, json.dumps({k: v for k, v in self._read().items() if k != url}, indent=2) + "\n")

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
    house = await metadata(http, url)
    asked = await _post(
        http, house["device_authorization_endpoint"], {"client_id": HOUSE_CLIENT} | ({"scope": scope} if scope else {})
    )
    device = asked.json()
    if asked.status_code != httpx2.codes.OK:
        raise Refusal(str(device.get("error_description", "The server refused.")))
    note(f"Open this in a browser, and check that it shows the code {device['user_code']}:")
    put(device["verification_uri_complete"])
    wait = float(device["interval"])
    form = {"client_id": HOUSE_CLIENT, "grant_type": DEVICE_CODE, "device_code": device["device_code"]}
    while True:
        await asyncio.sleep(wait)
        answer = await _post(http, house["token_endpoint"], form)
        told = answer.json()
        if answer.status_code == httpx2.codes.OK:
            return _dated(told)
        if told.get("error") == "slow_down":
            wait += SLOWER
        elif told.get("error") != "authorization_pending":
            raise Refusal(str(told.get("error_description", "Nobody let this terminal in.")))


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
    answer = await _post(http, house["token_endpoint"], form)
    if answer.status_code != httpx2.codes.OK:
        if answer.json().get("error") == "invalid_grant":
            return None
        raise Refusal(f"{url} could not refresh the sign-in ({answer.status_code}): try again.")
    told = _dated(answer.json())
    file.put(url, told)
    return told


async def revoke(http: httpx2.AsyncClient, url: str, tokens: Tokens) -> bool:
    """End the grant (RFC 7009). False when the house could not be told."""
    try:
        house = await metadata(http, url)
        form = {"client_id": HOUSE_CLIENT, "token": tokens.get("refresh_token") or tokens["access_token"]}
        return (await _post(http, house["revocation_endpoint"], form)).status_code == httpx2.codes.OK
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


async def _post(http: httpx2.AsyncClient, url: str, form: dict[str, str]) -> httpx2.Response:
    """Raises :class:`Refusal` for what is no JSON."""
    try:
        answer = await http.post(url, data=form)
        answer.json()
    except (httpx2.HTTPError, ValueError) as error:
        raise Refusal(
            f"{urlsplit(url).netloc} does not answer as an Innkeeper does ({type(error).__name__})."
        ) from None
    return answer


def _dated(told: Tokens) -> Tokens:
    return {**told, "expires_at": int(time() + float(told.get("expires_in", 0)))}
