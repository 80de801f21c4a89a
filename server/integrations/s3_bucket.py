"""What a bucket needs beside its objects: pages may use tickets (CORS), and what our jobs should have removed goes by
itself a day later (lifecycle). ``innkeeper doctor`` checks both, and with ``--fix`` installs them beside other rules.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final
from uuid import uuid4

from botocore.exceptions import BotoCoreError, ClientError

from db.files import INCOMING, TEMPORARY
from server.finding import Finding
from tools.ports import StorageRules

DAY: Final = 86_400
MARGIN_DAYS: Final = 1
OURS: Final = "innkeeper-"
METHODS: Final = ("GET", "HEAD", "PUT")
NOT_SET: Final = frozenset({"NoSuchCORSConfiguration", "NoSuchLifecycleConfiguration"})
CORS: Final[dict[str, Any]] = {
    "ID": f"{OURS}tickets",
    # A ticket is all the right there is, and no cookie goes along: any page that has one may use it.
    "AllowedOrigins": ["*"],
    "AllowedMethods": list(METHODS),
    "AllowedHeaders": ["*"],
    "ExposeHeaders": ["ETag", "Content-Range", "Content-Disposition"],
    "MaxAgeSeconds": 600,
}


@dataclass(frozen=True, slots=True)
class BucketDoctor:
    """``client``: of ``boto3``. Everything here blocks. ``fix``: whether to install what is missing."""

    client: Any
    bucket: str
    rules: StorageRules
    fix: bool = False

    def findings(self) -> Iterator[Finding]:
        try:
            self.client.head_bucket(Bucket=self.bucket)
            yield Finding("files", "ok", f"bucket {self.bucket} answers")
        except (ClientError, BotoCoreError) as error:
            yield Finding("files", "fault", f"bucket {self.bucket} cannot be reached: {_said(error)}")
            return
        for check in (self._writes_once, self._cors, self._lifecycle):
            try:
                yield from check()
            except (ClientError, BotoCoreError) as error:
                yield Finding("files", "fault", f"bucket {self.bucket}: {_said(error)}")

    def _writes_once(self) -> Iterator[Finding]:
        probe = {"Bucket": self.bucket, "Key": f"{INCOMING}probe-{uuid4().hex}"}
        self.client.put_object(**probe, Body=b"", IfNoneMatch="*")
        try:
            self.client.put_object(**probe, Body=b"", IfNoneMatch="*")
        except ClientError:
            yield Finding("files", "ok", "the bucket can be written, and writes what is conditional once")
        else:
            said = "the store ignores If-None-Match: an upload ticket can be used again until its file is confirmed"
            yield Finding("files", "warn", said)
        finally:
            self.client.delete_object(**probe)

    def _cors(self) -> Iterator[Finding]:
        there = _read(lambda: self.client.get_bucket_cors(Bucket=self.bucket)["CORSRules"])
        if any(map(_lets_pages_in, there)):
            yield Finding("files", "ok", "CORS: pages may use tickets")
        elif self.fix:
            rules = [*(rule for rule in there if rule.get("ID") != CORS["ID"]), CORS]
            self.client.put_bucket_cors(Bucket=self.bucket, CORSConfiguration={"CORSRules": rules})
            yield Finding("files", "ok", "CORS: installed, pages may use tickets")
        else:
            yield Finding("files", "fault", "CORS: pages may not use tickets: innkeeper doctor --fix")

    def _lifecycle(self) -> Iterator[Finding]:
        there = _read(lambda: self.client.get_bucket_lifecycle_configuration(Bucket=self.bucket)["Rules"])
        wanted = {rule["ID"]: rule for rule in lifecycle_rules(self.rules)}
        if {rule["ID"]: rule for rule in there if rule.get("ID") in wanted} == wanted:
            yield Finding("files", "ok", "lifecycle: what uploads leave behind and temporary files expire")
        elif self.fix:
            rules = [*(rule for rule in there if not str(rule.get("ID", "")).startswith(OURS)), *wanted.values()]
            self.client.put_bucket_lifecycle_configuration(Bucket=self.bucket, LifecycleConfiguration={"Rules": rules})
            yield Finding("files", "ok", "lifecycle: installed, what uploads leave behind and temporary files expire")
        else:
            said = "lifecycle: what uploads leave behind and temporary files do not expire: innkeeper doctor --fix"
            yield Finding("files", "fault", said)


def lifecycle_rules(rules: StorageRules) -> list[dict[str, Any]]:
    """The net under our jobs: a day after they should have, the bucket removes what had its time."""
    uploads = _days(rules.pending_seconds + rules.ticket_seconds)
    temporary = _days(rules.pending_seconds + rules.temporary_seconds)
    return [
        {
            "ID": f"{OURS}uploads",
            "Status": "Enabled",
            "Filter": {"Prefix": INCOMING},
            "Expiration": {"Days": uploads},
        },
        {
            "ID": f"{OURS}parts",
            "Status": "Enabled",
            "Filter": {"Prefix": ""},
            "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": uploads},
        },
        {
            "ID": f"{OURS}temporary",
            "Status": "Enabled",
            "Filter": {"Prefix": TEMPORARY},
            "Expiration": {"Days": temporary},
        },
    ]


def _days(seconds: int) -> int:
    return math.ceil(seconds / DAY) + MARGIN_DAYS


def _lets_pages_in(rule: dict[str, Any]) -> bool:
    return (
        "*" in rule.get("AllowedOrigins", ())
        and "*" in rule.get("AllowedHeaders", ())
        and set(METHODS) <= set(rule.get("AllowedMethods", ()))
    )


def _read(get: Callable[[], list[dict[str, Any]]]) -> list[dict[str, Any]]:
    try:
        return get()
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") in NOT_SET:
            return []
        raise


def _said(error: Exception) -> str:
    """What the store said, by its name alone: the words of a library may hold addresses."""
    code = error.response.get("Error", {}).get("Code") if isinstance(error, ClientError) else None
    return str(code or type(error).__name__)
