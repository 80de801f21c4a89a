"""Telemetry and storage: one section a vendor, all optional."""

from __future__ import annotations

from pydantic import SecretStr

from server.settings.section import HttpUrl, Section, variable

TELEMETRY = "telemetry exporters"


class SentrySettings(Section):
    dsn: SecretStr | None = variable("SENTRY_DSN", description="Reports crashes to Sentry.", used_from=TELEMETRY)
    environment: str | None = variable(
        "SENTRY_ENVIRONMENT", description="The environment named in reports.", used_from=TELEMETRY
    )


class PostHogSettings(Section):
    api_key: SecretStr | None = variable("POSTHOG_API_KEY", description="Product analytics.", used_from=TELEMETRY)
    host: HttpUrl | None = variable("POSTHOG_HOST", description="The PostHog server.", used_from=TELEMETRY)


class LangfuseSettings(Section):
    public_key: SecretStr | None = variable(
        "LANGFUSE_PUBLIC_KEY", description="Traces of agent runs to Langfuse.", used_from=TELEMETRY
    )
    secret_key: SecretStr | None = variable(
        "LANGFUSE_SECRET_KEY", description="The secret of that key pair.", used_from=TELEMETRY
    )
    host: HttpUrl | None = variable(
        "LANGFUSE_HOST", "LANGFUSE_BASE_URL", description="The Langfuse server.", used_from=TELEMETRY
    )


class OTelSettings(Section):
    endpoint: HttpUrl | None = variable(
        "OTEL_EXPORTER_OTLP_ENDPOINT", description="Sends spans to an OTLP collector.", used_from=TELEMETRY
    )


class AwsSettings(Section):
    """An S3-compatible store; without a bucket, files stay on the local disk."""

    access_key_id: str | None = variable(
        "AWS_ACCESS_KEY_ID",
        "S3_ACCESS_KEY_ID",
        description="The store's key id. Without one: the role of the machine, container or profile, as AWS SDKs find "
        "it.",
    )
    secret_access_key: SecretStr | None = variable(
        "AWS_SECRET_ACCESS_KEY", "S3_SECRET_ACCESS_KEY", description="The store's secret key."
    )
    session_token: SecretStr | None = variable("AWS_SESSION_TOKEN", description="With temporary credentials.")
    region: str | None = variable("AWS_REGION", "AWS_DEFAULT_REGION", "S3_REGION", description="The store's region.")
    endpoint_url: HttpUrl | None = variable(
        "AWS_ENDPOINT_URL_S3",
        "AWS_ENDPOINT_URL",
        "S3_ENDPOINT",
        description="The address of an S3-compatible store that is not Amazon's.",
    )
    bucket: str | None = variable(
        "AWS_S3_BUCKET", "S3_BUCKET", description="The bucket that holds files, and nothing else."
    )
    path_style: bool | None = variable(
        "AWS_S3_FORCE_PATH_STYLE",
        "S3_FORCE_PATH_STYLE",
        description="Whether the bucket stands in the path of addresses. Default: yes with an endpoint of one's own.",
    )
