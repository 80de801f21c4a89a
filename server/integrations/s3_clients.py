"""The two clients of a bucket of S3 or of what speaks like it, as the settings say where it is."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from botocore.config import Config
from obstore.store import S3Store

from server.integrations.s3_credentials import S3Credentials

if TYPE_CHECKING:
    from server.settings.vendors import AwsSettings


def bucket_client(settings: AwsSettings, credentials: S3Credentials, endpoint_url: str | None = None) -> Any:
    """``boto3``'s way to the store, at another endpoint than the settings' if one is given."""
    config = Config(
        signature_version="s3v4",
        s3={
            "addressing_style": "path" if _by_path(settings) else "virtual",
            "us_east_1_regional_endpoint": "regional",
        },
        connect_timeout=5,
        read_timeout=60,
        retries={"mode": "standard", "total_max_attempts": 3},
        # Checksums that nobody asked for are not known to every store.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    return credentials.client("s3", endpoint_url=endpoint_url or settings.endpoint_url, config=config)


def _by_path(settings: AwsSettings) -> bool:
    return settings.path_style if settings.path_style is not None else settings.endpoint_url is not None


def bucket_objects(settings: AwsSettings, credentials: S3Credentials) -> S3Store:
    """``obstore``'s way to the bucket, which wants the bucket in the endpoint when it does not stand in the path."""
    options: dict[str, Any] = {}
    bucket, endpoint, by_path = settings.bucket or "", settings.endpoint_url, _by_path(settings)
    if endpoint is not None:
        scheme, _, host = endpoint.partition("://")
        options["endpoint"] = endpoint if by_path else f"{scheme}://{bucket}.{host}"
    return S3Store(
        bucket,
        region=credentials.session.region_name or "us-east-1",
        virtual_hosted_style_request=not by_path,
        client_options={"allow_http": bool(endpoint and endpoint.startswith("http:")), "timeout": "60s"},
        retry_config={"max_retries": 3, "retry_timeout": timedelta(seconds=20)},
        credential_provider=credentials.current,
        **options,
    )
