"""What ``innkeeper doctor`` says of the place for files."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

from server.finding import Finding
from server.refusal import Refusal
from server.settings import Settings
from server.stores import files_directory, storage_rules


async def store_findings(settings: Settings, default: Path | None, *, fix: bool) -> AsyncIterator[Finding]:
    """``default``: the directory of ``up``. ``fix``: whether to install what a bucket lacks."""
    if settings.aws.bucket is not None:
        for finding in await asyncio.to_thread(_of_bucket, settings, fix):
            yield finding
        if settings.files.webhook_secret is None:
            said = "events of the bucket are not heard: set INNKEEPER_STORAGE_WEBHOOK_SECRET to have them heard"
            yield Finding("files", "note", said)
        return
    directory = files_directory(settings, default)
    if directory is None:
        yield Finding("files", "note", "no place for files: set AWS_S3_BUCKET or INNKEEPER_FILES_DIR")
    elif directory.exists() and not os.access(directory, os.W_OK | os.X_OK):
        yield Finding("files", "fault", f"{directory} cannot be written by this account")
    else:
        yield Finding("files", "ok", f"in {directory}")


def _of_bucket(settings: Settings, fix: bool) -> list[Finding]:
    try:
        from server.integrations.s3_bucket import BucketDoctor
        from server.integrations.s3_clients import bucket_client
        from server.integrations.s3_credentials import S3Credentials

        client = bucket_client(settings.aws, S3Credentials.find(settings.aws))
        return list(BucketDoctor(client, settings.aws.bucket or "", storage_rules(settings), fix).findings())
    except ModuleNotFoundError as error:
        return [Finding("files", "fault", f"{error.name} is missing: pip install 'innkeeper[s3]'")]
    except Refusal as refusal:
        return [Finding("files", "fault", sentence) for sentence in refusal.sentences]
