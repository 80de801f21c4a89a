"""Who a client is: one that registered, or one that describes itself in the document at its client_id.

Client ID Metadata Documents (draft-ietf-oauth-client-id-metadata-document): the address is fetched with the guarded
client, without redirects, must say its own address, and is believed as long as its cache headers say, within bounds.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final
from urllib.parse import urlsplit

from db.database import Database
from db.errors import AppError
from db.oauth import clients
from db.oauth.clients import Client, Described
from server.limits.newcomers import REGISTRATIONS, Newcomers
from server.oauth.descriptions import described
from tools.outside import NOTHING_OUTSIDE, Answered, Outside

MOST_BYTES: Final = 16 * 1024
SECONDS: Final = 5.0
LONGEST: Final = 1000
SHORTEST_LIFE: Final = timedelta(minutes=5)
USUAL_LIFE: Final = timedelta(hours=1)
LONGEST_LIFE: Final = timedelta(days=1)
AWAY: Final = frozenset({"remote_unreachable", "remote_timeout"})
"""Faults in which what a client said before still counts."""
TYPES: Final = ("application/json", "application/cimd+json")
_CHARACTERS: Final = r"[A-Za-z0-9\-._~!$&'()*+,;=:@%/]*"
_PLAIN: Final = re.compile(rf"https://[A-Za-z0-9.-]+(?::[1-9][0-9]{{0,4}})?/{_CHARACTERS}(?:\?{_CHARACTERS})?")
_MAX_AGE: Final = re.compile(r"(?:^|[,\s])max-age=([0-9]{1,9})(?:$|[,\s])")


class KnownClients:
    """Finds clients by what they call themselves."""

    def __init__(self, database: Database, outside: Outside, newcomers: Newcomers) -> None:
        self._database = database
        self._newcomers = newcomers
        self._outside = outside
        self.documents = outside is not NOTHING_OUTSIDE

    async def find(self, client_id: str, came_from: str) -> Client | None:
        """``came_from``: the address of who asks. ``None`` for a client nobody knows. Raises ``AppError``
        ``client_document_wrong`` for one whose document cannot be had or believed."""
        if not client_id.startswith("https://"):
            return await clients.find(self._database, client_id)
        if not self.documents or not is_document_address(client_id):
            return None
        known = await clients.find(self._database, client_id)
        if known is not None and known.fresh:
            return known
        await self._newcomers.count("document", came_from, REGISTRATIONS)
        try:
            found = await self._outside.request(
                "GET", client_id, accept=TYPES, max_bytes=MOST_BYTES, seconds=SECONDS, redirects=0
            )
        except AppError as error:
            if known is not None and error.code in AWAY:
                return known
            raise _wrong("it cannot be fetched") from error
        return await clients.keep_document(self._database, client_id, _read(found, client_id), life(found.headers))


def is_document_address(client_id: str) -> bool:
    """https, a path, no user, no fragment, no dot segments (draft, section 3)."""
    if len(client_id) > LONGEST or not _PLAIN.fullmatch(client_id):
        return False
    path = urlsplit(client_id).path.lower().replace("%2e", ".")
    return path != "/" and not {".", ".."} & set(path.split("/"))


def life(headers: Mapping[str, str]) -> timedelta:
    """How long a document is believed."""
    control = headers.get("cache-control", "").lower()
    if "no-store" in control or "no-cache" in control:
        return SHORTEST_LIFE
    found = _MAX_AGE.search(control)
    told = timedelta(seconds=int(found[1])) if found else USUAL_LIFE
    return min(max(told, SHORTEST_LIFE), LONGEST_LIFE)


def _read(found: Answered, client_id: str) -> Described:
    if found.status != 200:
        raise _wrong(f"its address answers with {found.status}")
    document = _object(found.body)
    if document.get("client_id") != client_id:
        raise _wrong("it says that it is another client")
    if "client_secret" in document or document.get("token_endpoint_auth_method", "none") != "none":
        raise _wrong("its client would need a secret, which nobody can keep in public")
    try:
        return described(document, default_method="none")
    except AppError as error:
        raise _wrong(error.message) from error


def _object(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise _wrong("it is no JSON object")
    return found


def _wrong(why: str) -> AppError:
    return AppError(
        "client_document_wrong",
        400,
        f"The description of the application that sent you here cannot be used: {why}.",
        "Nothing was allowed. Try again later, or ask whoever makes the application.",
    )
