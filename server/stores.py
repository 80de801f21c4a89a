"""Which store a process keeps files in: a bucket if one is named, else a directory, else none."""

from __future__ import annotations

import asyncio
import importlib
from pathlib import Path

from db.errors import AppError
from server.http.storage_events import BucketEvents
from server.integrations.local_files import LocalFiles
from server.integrations.local_tickets import LABEL, TicketSigner
from server.keyring import Keyring
from server.refusal import Refusal
from server.settings import Settings
from server.settings.files import MEBIBYTE
from tools.ports import StorageRules
from tools.store import NO_STORE, Store


def files_directory(settings: Settings, default: Path | None) -> Path | None:
    """Where files lie on this machine; ``None`` when they do not."""
    return None if settings.aws.bucket else settings.files.directory or default


def said_of(settings: Settings, default: Path | None) -> str:
    """One line for whoever starts a process."""
    if settings.aws.bucket:
        return f"files: bucket {settings.aws.bucket}" + (
            f" at {settings.aws.endpoint_url}" if settings.aws.endpoint_url else ""
        )
    directory = files_directory(settings, default)
    if directory is not None:
        return f"files: {directory}"
    return "files: none, storage tools refuse; set AWS_S3_BUCKET, or INNKEEPER_FILES_DIR to a disk that all share"


def storage_rules(settings: Settings) -> StorageRules:
    return StorageRules(
        quota_bytes=settings.files.quota_mib * MEBIBYTE, largest_bytes=settings.files.largest_mib * MEBIBYTE
    )


def bucket_events(settings: Settings) -> BucketEvents | None:
    secret = settings.files.webhook_secret
    return BucketEvents(settings.aws.bucket, secret.get_secret_value()) if settings.aws.bucket and secret else None


async def open_store(settings: Settings, default: Path | None, keyring: Keyring, public_url: str) -> Store:
    """The store of this process; whoever opens it closes it with :func:`close_store`. Raises ``Refusal``."""
    if settings.aws.bucket:
        return await _bucket(settings)
    directory = files_directory(settings, default)
    if directory is None:
        return NO_STORE
    signer = TicketSigner(lambda: [key for _id, key in keyring.signing_keys(LABEL)])
    local = LocalFiles(directory.expanduser().absolute(), signer, settings.files.url or public_url)
    try:
        await local.open()
    except AppError as error:
        raise Refusal(
            f"The directory of files, {directory}, cannot be written: make it so, or choose another."
        ) from error
    return local


async def _bucket(settings: Settings) -> Store:
    try:
        # Half a second of imports, which only who has a bucket pays for.
        s3_files = await asyncio.to_thread(importlib.import_module, "server.integrations.s3_files")
    except ModuleNotFoundError as error:
        raise Refusal(f"AWS_S3_BUCKET is set and {error.name} is missing: pip install 'innkeeper[s3]'.") from None
    store: Store = await s3_files.S3Files.open(settings.aws, settings.files.url)
    return store


async def close_store(store: Store) -> None:
    if store is not NO_STORE:
        await store.aclose()  # type: ignore[attr-defined]  # tools have no use for it
