"""Taking what a ticket of the local store allows, and nothing else: size, type and checksum are looked at before a
byte has a name."""

from __future__ import annotations

import base64
import re
from typing import Final

from starlette.types import Receive

from db.errors import AppError, invalid
from server.http.fields import Fields
from server.integrations.local_disk import CHUNK, Draft
from server.integrations.local_files import LocalFiles
from server.integrations.local_tickets import Claims, refused

_DIGEST: Final = re.compile(r"(?:^|,)\s*sha-256=:([^:]+):\s*(?=,|$)")


async def take(store: LocalFiles, claims: Claims, fields: Fields, receive: Receive) -> None:
    """Write the body of a PUT, through a buffer of fixed size. Raises ``AppError``, and ``ConnectionError`` for a body
    that breaks off; either way nothing is left of it."""
    given, disk = claims.given, store.disk
    size = int(given["size"])
    _require_allowed(claims, fields)
    sums = {given["sha256"]} if "sha256" in given else set()
    sums |= _sent_sums(fields)
    upload = given.get("upload")
    if upload is None and await store.run(disk.has_come, claims.key):
        raise _used()
    draft = await store.run(disk.draft)
    try:
        await _write(store, draft, size, receive)
        if sums - {draft.sha256}:
            raise _differs("The SHA-256 of what came is not the one that was announced.")
        if upload is None:
            if not await store.run(disk.take, claims.key, draft):
                raise _used()
        elif not await store.run(disk.take_part, upload, int(given["part"]), draft):
            raise AppError("upload_not_found", 404, "This upload has ended.", "Ask for its state: confirm_upload.")
    finally:
        await store.run(draft.close)


async def _write(store: LocalFiles, draft: Draft, size: int, receive: Receive) -> None:
    held, received, more = bytearray(), 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionResetError
        held += message.get("body", b"")
        more = message.get("more_body", False)
        if received + len(held) > size:
            raise _length(size)
        if held and (len(held) >= CHUNK or not more):
            await store.run(draft.write, held)
            received += len(held)
            held = bytearray()
    if received != size:
        raise _length(size)


def _require_allowed(claims: Claims, fields: Fields) -> None:
    given = claims.given
    if fields.get(b"content-length", given["size"].encode()) != given["size"].encode():
        raise _length(int(given["size"]))
    if "type" in given and _plain(fields.get(b"content-type", b"").decode("latin-1")) != _plain(given["type"]):
        raise refused(f"The ticket is for the Content-Type {given['type']}.")
    if fields.get(b"content-encoding", b"identity") != b"identity" or b"content-range" in fields:
        raise invalid("Files are sent whole and as they are.", "Leave Content-Encoding and Content-Range out.")
    if fields.get(b"if-none-match", b"*") != b"*" or b"if-match" in fields:
        raise AppError("precondition_failed", 412, "There is no file here yet.", "Leave the condition out.")


def _sent_sums(fields: Fields) -> set[str]:
    """What the client says of its own bytes: in ``Repr-Digest`` (RFC 9530), or as clients of S3 do."""
    sent = [fields.get(b"x-amz-checksum-sha256", b"").decode("latin-1")]
    for name in (b"repr-digest", b"content-digest"):
        sent += _DIGEST.findall(fields.get(name, b"").decode("latin-1"))
    try:
        return {base64.b64decode(one, validate=True).hex() for one in sent if one}
    except ValueError:
        raise _differs("The checksum that was sent is not base64.") from None


def _plain(content_type: str) -> str:
    return content_type.lower().replace(" ", "")


def _length(size: int) -> AppError:
    return refused(f"The ticket is for exactly {size} bytes.")


def _differs(message: str) -> AppError:
    return invalid(message, "Send the announced bytes again, with their SHA-256 or without any.", "checksum_differs")


def _used() -> AppError:
    return AppError(
        "precondition_failed",
        412,
        "This ticket was used, and nothing is overwritten.",
        "Confirm the upload with confirm_upload, or announce another file with create_upload.",
    )
