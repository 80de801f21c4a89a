"""An upload: what is said of it beforehand, how far it has come, and the tickets that its client needs next."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Final, Literal, TypeAlias
from uuid import UUID

from pydantic import AfterValidator, BaseModel, Field
from pydantic_core import to_json

from db import files
from db.errors import not_found
from tools import arrivals
from tools.contract import Call
from tools.result import NOTE_BYTES
from tools.trust import Trusted

if TYPE_CHECKING:
    import asyncpg

    from tools import store

_CONTENT_TYPE: Final = re.compile(r"[\w.+-]+/[\w.+-]+(; ?[\w-]+=[\w.,+-]+)*", re.ASCII)
"""Commas, which stand in no token, because browsers write ``video/webm;codecs=vp8,opus`` of what they record."""
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
MOST_METADATA: Final = 2_000


def _content_type(text: str) -> str:
    if not _CONTENT_TYPE.fullmatch(text):
        raise ValueError("must be a MIME type, such as text/plain")
    return text.lower()


def _sha256(text: str) -> str:
    if not _SHA256.fullmatch(text.lower()):
        raise ValueError("must be 64 hexadecimal digits")
    return text.lower()


def _metadata(notes: dict[str, str]) -> dict[str, str]:
    if len(to_json(notes)) > MOST_METADATA:
        raise ValueError(f"must be at most {MOST_METADATA} bytes of JSON")
    if any("\x00" in text for pair in notes.items() for text in pair):
        raise ValueError("must not contain a NUL character")
    return notes


Size: TypeAlias = Annotated[int, Field(ge=0, description="Bytes.")]
ContentType: TypeAlias = Annotated[str, Field(max_length=100, description="MIME type."), AfterValidator(_content_type)]
Sha256: TypeAlias = Annotated[str, Field(description="Hex."), AfterValidator(_sha256)]
Metadata: TypeAlias = Annotated[dict[str, str], Field(description="Notes."), AfterValidator(_metadata)]
Status: TypeAlias = Literal["pending", "ready", "lost"]


class Ticket(BaseModel):
    """An address that allows one thing for a while. ``headers`` are part of what was signed: send them all."""

    method: Literal["GET", "PUT"]
    url: Trusted[str]
    headers: Trusted[dict[str, str]]
    expires_at: datetime


class PartTicket(BaseModel):
    number: int
    offset: int
    size: int
    url: Trusted[str]


class Upload(BaseModel):
    id: UUID
    status: Status
    size: int
    expires_at: datetime | None = Field(description="When a pending upload is given up, or a temporary file deleted.")
    ticket: Ticket | None = Field(default=None, description="Send the bytes with it, then call confirm_upload.")
    parts: list[PartTicket] | None = Field(
        default=None, description="PUT each part of the bytes to its url, then call confirm_upload."
    )
    missing: int | None = Field(default=None, description="How many parts are yet to come, these included.")


def noted(row: asyncpg.Record) -> Upload:
    """An upload without tickets, as its row says."""
    return Upload(id=row["id"], status=row["status"], size=row["size"], expires_at=row["expires_at"])


async def continued(call: Call, row: asyncpg.Record, max_bytes: int) -> Upload:
    """How far an upload has come, with tickets for the next of it: as many as an answer of ``max_bytes`` holds. Raises
    ``AppError`` when it is gone."""
    upload = noted(row)
    if upload.status != "pending":
        return upload
    rules, store = call.services.storage, call.services.store
    key = files.key_of(row)
    seconds = _seconds_left(row, rules.ticket_seconds)
    if upload.size <= rules.single_bytes and row["upload_id"] is None:
        sha256 = row["sha256"].hex() if row["sha256"] else None
        upload.ticket = whole(call, key, upload.size, row["content_type"], sha256, seconds)
        return upload
    upload_id = row["upload_id"] or await _begun(call, row, key)
    missing = await arrivals.missing(store, row, upload_id)
    upload.missing, upload.parts = len(missing), []
    room = max_bytes - len(upload.model_dump_json().encode()) - NOTE_BYTES
    for number, offset, size in missing:
        ticket = store.part_ticket(key, upload_id, number, size, seconds)
        part = PartTicket(number=number, offset=offset, size=size, url=ticket.url)
        room -= len(part.model_dump_json().encode()) + 1
        if room < 0 and upload.parts:
            break
        upload.parts.append(part)
    return upload


def whole(call: Call, key: str, size: int, content_type: str, sha256: str | None, seconds: int) -> Ticket:
    """A ticket for all bytes of a file at once."""
    return shown(
        call.services.store.upload_ticket(key, size=size, content_type=content_type, sha256=sha256, expires_in=seconds)
    )


async def _begun(call: Call, row: asyncpg.Record, key: str) -> str:
    """Begin an upload in parts. Two callers may at once: the one that is noted first is the one that counts."""
    begun = await call.services.store.start_multipart(key, row["content_type"])
    async with call.services.database.transaction(call.principal, row["project_id"]) as connection:
        noted = await files.remember_upload(connection, row["id"], begun)
    if noted != begun:
        await call.services.store.abort_multipart(key, begun)
    if noted is None:
        raise not_found("file")
    return noted


def _seconds_left(row: asyncpg.Record, most: int) -> int:
    """How long a ticket may be good: never longer than the upload is waited for."""
    left = most if row["expires_at"] is None else int((row["expires_at"] - datetime.now(UTC)).total_seconds())
    return max(1, min(most, left))


def shown(signed: store.Ticket) -> Ticket:
    """What the store signed, as an answer shows it."""
    return Ticket.model_validate(signed, from_attributes=True)
