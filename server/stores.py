"""Which store a process keeps files in: a bucket if one is named, else a directory, else none."""

from __future__ import annotations

from pathlib import Path

from server.integrations.local_files import LocalFiles
from server.integrations.local_tickets import LABEL, TicketSigner
from server.keyring import Keyring
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


async def open_store(settings: Settings, default: Path | None, keyring: Keyring, public_url: str) -> Store:
    """The store of this process; whoever opens it closes it with :func:`close_store`."""
    directory = files_directory(settings, default)
    if directory is None:
        return NO_STORE
    local = LocalFiles(
        directory.expanduser().absolute(), TicketSigner([keyring.derive(LABEL)]), settings.files.url or public_url
    )
    await local.open()
    return local


async def close_store(store: Store) -> None:
    if isinstance(store, LocalFiles):
        store.close()
