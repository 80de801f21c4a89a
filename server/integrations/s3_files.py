"""Files in a bucket of S3 or of what speaks like it: ``obstore`` moves bytes, ``boto3`` signs addresses and does what
is rare, in threads.

An upload is sent to ``incoming/{key}`` under a signature over length, type, checksum and ``If-None-Match: *``, and is
copied to its key when it is accepted. The first object stays where it is until it is swept, or until the bucket's
lifecycle rule takes it: while it is there, or the seal that replaces it, the ticket writes nothing again.
"""

from __future__ import annotations

import asyncio
import base64
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, TypeVar

import httpx2
import obstore
from botocore.exceptions import BotoCoreError, ClientError
from obstore.exceptions import BaseError

from db.errors import AppError
from db.files import INCOMING
from server.integrations.local_files import gone, too_large
from server.integrations.local_tickets import refused
from server.integrations.s3_clients import bucket_client, bucket_objects
from server.integrations.s3_credentials import S3Credentials
from tools.store import Part, StoredObject, Ticket

if TYPE_CHECKING:
    from collections.abc import Iterator

    from server.settings.vendors import AwsSettings

THREADS: Final = 8
CHUNK: Final = 1 << 18
BATCH: Final = 1000
CACHED: Final = "private, no-cache"
ABSENT: Final = frozenset({"404", "NoSuchKey", "NoSuchUpload", "NotFound"})
T = TypeVar("T")
_log = logging.getLogger("innkeeper.files")


class S3Files:
    """A :class:`tools.store.Store` in a bucket. ``public_url``: where clients reach it, if not at its endpoint."""

    def __init__(self, settings: AwsSettings, credentials: S3Credentials, public_url: str | None = None) -> None:
        if settings.bucket is None:
            raise RuntimeError("called with a bucket")
        self.bucket = settings.bucket
        self.credentials = credentials
        self.client = bucket_client(settings, credentials)
        self._signer = bucket_client(settings, credentials, public_url) if public_url else self.client
        self._objects = bucket_objects(settings, credentials)
        self._base = self._sign("get_object", 60, Key="x").partition("/x?")[0] + "/"
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="files")
        self._http = httpx2.AsyncClient(trust_env=False, timeout=60)

    @classmethod
    async def open(cls, settings: AwsSettings, public_url: str | None = None) -> S3Files:
        """Finds credentials. Raises ``Refusal`` without any. The bucket itself is asked for when it is used."""
        credentials = await asyncio.to_thread(S3Credentials.find, settings)
        store = await asyncio.to_thread(cls, settings, credentials, public_url)
        credentials.keep()
        return store

    async def aclose(self) -> None:
        await self.credentials.aclose()
        await self._http.aclose()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def run(self, work: Callable[..., T], **arguments: object) -> T:
        """A call of ``boto3`` in a thread of the store. Raises ``AppError`` for what is not said in the answer."""
        with _reachable():
            return await asyncio.get_running_loop().run_in_executor(self._threads, lambda: work(**arguments))

    def upload_ticket(
        self, key: str, *, size: int, content_type: str, sha256: str | None, expires_in: int, bare: bool = False
    ) -> Ticket:
        signed: dict[str, Any] = {"ContentType": content_type, "ContentLength": size}
        headers = {"content-type": content_type, "content-length": str(size)}
        if not bare:
            headers["if-none-match"] = signed["IfNoneMatch"] = "*"
        if sha256 is not None:
            headers["x-amz-checksum-sha256"] = base64.b64encode(bytes.fromhex(sha256)).decode()
            signed["ChecksumSHA256"] = headers["x-amz-checksum-sha256"]
        return self._ticket("PUT", "put_object", headers, expires_in, Key=INCOMING + key, **signed)

    def part_ticket(self, key: str, upload_id: str, number: int, size: int, expires_in: int) -> Ticket:
        named = {"Key": key, "UploadId": upload_id, "PartNumber": number, "ContentLength": size}
        return self._ticket("PUT", "upload_part", {"content-length": str(size)}, expires_in, **named)

    def download_ticket(self, key: str, *, filename: str, content_type: str, inline: bool, expires_in: int) -> Ticket:
        served = {
            "ResponseContentType": content_type,
            "ResponseContentDisposition": f'{"inline" if inline else "attachment"}; filename="{filename}"',
            "ResponseCacheControl": CACHED,
        }
        return self._ticket("GET", "get_object", {}, expires_in, Key=key, **served)

    def _ticket(self, method: str, operation: str, headers: dict[str, str], expires_in: int, **named: object) -> Ticket:
        now, end = datetime.now(UTC).replace(microsecond=0), self.credentials.expires_at
        if end is not None:
            expires_in = max(1, min(expires_in, int((end - now).total_seconds())))
        url = self._sign(operation, expires_in, **named)
        return Ticket(url, method, headers, now + timedelta(seconds=expires_in))

    def _sign(self, operation: str, expires_in: int, **named: object) -> str:
        params = {"Bucket": self.bucket, **named}
        url: str = self._signer.generate_presigned_url(operation, Params=params, ExpiresIn=expires_in)
        return url

    async def fetch(self, url: str, most: int) -> bytes:
        if not url.startswith(self._base):
            raise refused("This is no address of the store.")
        found = bytearray()
        try:
            async with self._http.stream("GET", url) as answer:
                if answer.status_code == 404:
                    raise gone()
                if answer.status_code != 200:
                    raise refused(f"The store answered {answer.status_code}.")
                size = int(answer.headers.get("content-length", 0))
                async for data in answer.aiter_raw(CHUNK):
                    found += data
                    if max(len(found), size) > most:
                        raise too_large(max(len(found), size), most)
        except httpx2.HTTPError as error:
            raise _away(error) from None
        return bytes(found)

    async def start_multipart(self, key: str, content_type: str) -> str:
        answer = await self.run(
            self.client.create_multipart_upload, Bucket=self.bucket, Key=key, ContentType=content_type
        )
        return str(answer["UploadId"])

    async def list_parts(self, key: str, upload_id: str) -> list[Part]:
        def listed() -> list[dict[str, Any]]:
            pages = self.client.get_paginator("list_parts").paginate(Bucket=self.bucket, Key=key, UploadId=upload_id)
            return [part for page in pages for part in page.get("Parts", ())]

        try:
            found = sorted(await self.run(listed), key=lambda part: part["LastModified"])
        except FileNotFoundError:
            return []
        # Some stores still show a part that was sent again: the later one counts.
        latest = {part["PartNumber"]: Part(part["PartNumber"], part["Size"], part["ETag"]) for part in found}
        return [latest[number] for number in sorted(latest)]

    async def complete_multipart(self, key: str, upload_id: str, parts: Sequence[Part]) -> None:
        named = [{"PartNumber": part.number, "ETag": part.etag} for part in parts]
        try:
            await self.run(
                self.client.complete_multipart_upload,
                Bucket=self.bucket,
                Key=key,
                UploadId=upload_id,
                MultipartUpload={"Parts": named},
            )
        except FileNotFoundError as error:
            if await self.head(key) is None:
                raise _away(error) from None

    async def abort_multipart(self, key: str, upload_id: str) -> None:
        try:
            await self.run(self.client.abort_multipart_upload, Bucket=self.bucket, Key=key, UploadId=upload_id)
        except FileNotFoundError:
            return

    async def accept(self, key: str) -> StoredObject | None:
        found = await self.head(key)
        if found is not None:
            return found
        try:
            with _reachable():
                await obstore.copy_async(self._objects, INCOMING + key, key)
        except FileNotFoundError:
            return None
        return await self.head(key)

    async def seal(self, key: str) -> None:
        await self.put(INCOMING + key, b"", "application/x-empty")

    async def put(self, key: str, data: bytes, content_type: str) -> None:
        with _reachable():
            await obstore.put_async(
                self._objects, key, data, attributes={"Content-Type": content_type}, use_multipart=False
            )

    async def head(self, key: str) -> StoredObject | None:
        try:
            found = await self.run(self.client.head_object, Bucket=self.bucket, Key=key, ChecksumMode="ENABLED")
        except FileNotFoundError:
            return None
        digest = found.get("ChecksumSHA256")
        # With a number of parts behind it, it is a sum of sums, not one of the bytes.
        whole = base64.b64decode(digest).hex() if digest and "-" not in digest else None
        return StoredObject(key, found["ContentLength"], found["LastModified"], whole)

    async def read(self, key: str, offset: int, length: int) -> bytes:
        try:
            with _reachable():
                return bytes(await obstore.get_range_async(self._objects, key, start=offset, length=length))
        except FileNotFoundError:
            return b""

    async def stream(self, key: str) -> AsyncIterator[bytes]:
        try:
            with _reachable():
                answer = await obstore.get_async(self._objects, key)
                async for data in answer.stream(min_chunk_size=CHUNK):
                    yield bytes(data)
        except FileNotFoundError:
            return

    async def delete(self, keys: Iterable[str]) -> None:
        named = list(keys)
        for start in range(0, len(named), BATCH):
            with _reachable():
                await obstore.delete_async(self._objects, named[start : start + BATCH])

    async def list(self, prefix: str, after: str = "") -> AsyncGenerator[StoredObject]:
        with _reachable():
            async for page in obstore.list(self._objects, prefix, offset=after or None, chunk_size=BATCH):
                for one in page:
                    yield StoredObject(one["path"], one["size"], one["last_modified"])

    async def sweep(self, before: datetime) -> int:
        removed, old = 0, []
        async for one in self.list(INCOMING):
            if one.modified < before:
                old.append(one.key)
            if len(old) == BATCH:
                await self.delete(old)
                removed, old = removed + BATCH, []
        await self.delete(old)
        return removed + len(old) + await self.run(self._abort_before, before=before)

    def _abort_before(self, before: datetime) -> int:
        aborted = 0
        for page in self.client.get_paginator("list_multipart_uploads").paginate(Bucket=self.bucket):
            for upload in page.get("Uploads", ()):
                if upload["Initiated"] < before:
                    named = {"Bucket": self.bucket, "Key": upload["Key"], "UploadId": upload["UploadId"]}
                    self.client.abort_multipart_upload(**named)
                    aborted += 1
        return aborted


@contextmanager
def _reachable() -> Iterator[None]:
    """What is not there is a ``FileNotFoundError``; whatever else a store says is an ``AppError``."""
    try:
        yield
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        if code in ABSENT:
            raise FileNotFoundError(code) from None
        raise _away(error, code) from None
    except (BotoCoreError, BaseError) as error:
        raise _away(error) from None


def _away(error: Exception, code: str = "") -> AppError:
    """Says to the log what the store said, by its name alone: its words may hold addresses."""
    _log.warning("the store does not answer as it should: %s %s", type(error).__name__, code)
    return AppError("store_unavailable", 503, "The store of files does not answer.", "Try again shortly.", True, 5)
