"""Where files are kept, and how much of them there may be."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr

from server.settings.section import HttpUrl, Section, variable

MEBIBYTE = 1 << 20
Mebibytes = Annotated[int, Field(ge=1, le=1 << 40)]


def _check_webhook_secret(value: SecretStr) -> SecretStr:
    if len(value.get_secret_value()) < 24:
        raise ValueError("must be at least 24 characters")
    return value


class FileSettings(Section):
    """On the local disk, unless a bucket is named (`AWS_S3_BUCKET`)."""

    directory: Path | None = variable(
        "INNKEEPER_FILES_DIR",
        description="Where files are kept. Default: `files` in the data directory of `up`; `serve` has none by itself.",
    )
    url: HttpUrl | None = variable(
        "INNKEEPER_FILES_URL",
        description="The origin of file addresses, if it is not the public URL (or, with a bucket, not its endpoint). "
        "Nothing but files is served there.",
    )
    quota_mib: Mebibytes = variable(
        "INNKEEPER_FILES_QUOTA_MIB", default=10_240, description="MiB that a project may store."
    )
    largest_mib: Mebibytes = variable(
        "INNKEEPER_FILES_LARGEST_MIB", default=5_120, description="MiB of the longest file."
    )
    webhook_secret: Annotated[SecretStr, AfterValidator(_check_webhook_secret)] | None = variable(
        "INNKEEPER_STORAGE_WEBHOOK_SECRET",
        description="What the bucket's notifications prove themselves with at `/webhooks/storage`, which is closed "
        "without one: a bearer token, or `whsec_...` for Standard Webhooks signatures.",
    )
