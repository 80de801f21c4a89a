"""``innkeeper login``: sign in from a terminal by the device flow (RFC 8628), and keep the tokens in a file."""

from __future__ import annotations

import asyncio
import json
from argparse import Namespace
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import httpx2

from db.oauth.clients import DEVICE_CODE, HOUSE_CLIENT_ID
from server.keyring import replace
from server.refusal import Refusal
from server.terminal import note, put

SECONDS: Final = 15.0
SLOWER: Final = 5.0


def run(arguments: Namespace) -> int:
    return asyncio.run(_run(arguments))


async def _run(arguments: Namespace) -> int:
    url = _address(arguments.url)
    file = arguments.file or Path.home() / ".config" / "innkeeper" / "tokens.json"
    async with httpx2.AsyncClient(timeout=SECONDS) as http:
        try:
            tokens = await _sign_in(http, url, " ".join(arguments.scope or ()))
        except httpx2.HTTPError as error:
            raise Refusal(f"{url} does not answer as an Innkeeper does ({type(error).__name__}): check it.") from None
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    kept = json.loads(file.read_text()) if file.exists() else {}
    replace(file, json.dumps({**kept, url: tokens}, indent=2) + "\n")
    note(f"Signed in to {url}. Its tokens are in {file}, which only you can read; they may: {tokens['scope']}.")
    return 0


async def _sign_in(http: httpx2.AsyncClient, url: str, scope: str) -> dict[str, Any]:
    metadata = (await http.get(f"{url}/.well-known/oauth-authorization-server")).raise_for_status().json()
    client = {"client_id": HOUSE_CLIENT_ID}
    asked = await http.post(
        metadata["device_authorization_endpoint"], data={**client, **({"scope": scope} if scope else {})}
    )
    if asked.status_code != httpx2.codes.OK:
        raise Refusal(str(asked.json().get("error_description", "The server refused.")))
    device = asked.json()
    note(f"Open this in a browser, and check that it shows the code {device['user_code']}:")
    put(device["verification_uri_complete"])
    wait = float(device["interval"])
    form = {**client, "grant_type": DEVICE_CODE, "device_code": device["device_code"]}
    while True:
        await asyncio.sleep(wait)
        answer = await http.post(metadata["token_endpoint"], data=form)
        told: dict[str, Any] = answer.json()
        if answer.status_code == httpx2.codes.OK:
            return told
        if told.get("error") == "slow_down":
            wait += SLOWER
        elif told.get("error") != "authorization_pending":
            raise Refusal(str(told.get("error_description", "Nobody let this terminal in.")))


def _address(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise Refusal(f"{text} is not an address: give http(s)://HOST[:PORT].")
    return f"{parts.scheme}://{parts.netloc}"
