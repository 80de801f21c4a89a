"""Innkeeper's own settings: where it is reached, where it keeps things, its database."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

from server.settings.section import DatabaseUrl, HttpUrl, Names, Section, split_commas, variable

ROOT_SECRET_BYTES = 32


def _check_root_secret(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    if len(text.encode()) < ROOT_SECRET_BYTES:
        raise ValueError(
            f"must be at least {ROOT_SECRET_BYTES} bytes; make one with: "
            "python3 -c 'import secrets; print(secrets.token_urlsafe(48))'"
        )
    if len(set(text)) < 10:
        raise ValueError("repeats too few characters to be a secret; make a random one")
    return value


RootSecret = Annotated[SecretStr, AfterValidator(_check_root_secret)]


def _check_token(value: SecretStr) -> SecretStr:
    if len(value.get_secret_value()) < 16:
        raise ValueError("must be at least 16 characters")
    return value


class HouseSettings(Section):
    """Where it is reached and how it behaves."""

    environment: Literal["production", "development"] = variable(
        "INNKEEPER_ENV",
        default="production",
        description="`production` refuses missing or short secrets. `up` and the commands beside it are `development` "
        "by themselves.",
    )
    public_url: HttpUrl | None = variable(
        "INNKEEPER_PUBLIC_URL",
        description="The address clients use, without a path. Required in production; `up` takes its own address.",
    )
    allowed_hosts: Names = variable(
        "INNKEEPER_ALLOWED_HOSTS",
        default=(),
        description="Further `Host` values to accept, separated by commas. The public URL's host always is.",
    )
    allowed_origins: Names = variable(
        "INNKEEPER_ALLOWED_ORIGINS",
        default=(),
        description="Further browser origins to accept, separated by commas. The public URL's origin always is.",
    )
    root_secret: RootSecret | None = variable(
        "INNKEEPER_ROOT_SECRET",
        description="At least 32 bytes; every other key is derived from it. `up` makes one in its data directory.",
    )
    other_root_secrets: Annotated[tuple[RootSecret, ...], BeforeValidator(split_commas)] = variable(
        "INNKEEPER_OTHER_ROOT_SECRETS",
        default=(),
        description="Further root secrets, separated by commas, that are accepted and used for nothing new: the next "
        "one before `innkeeper keys rotate`, the one before after it.",
    )
    metrics_token: Annotated[SecretStr, AfterValidator(_check_token)] | None = variable(
        "INNKEEPER_METRICS_TOKEN", description="The bearer token of `/metrics`, which is closed without one."
    )
    data: Path | None = variable(
        "INNKEEPER_DATA", description="The data directory of `up`. Default: `$XDG_DATA_HOME/innkeeper`."
    )
    log_format: Literal["json", "text"] | None = variable(
        "INNKEEPER_LOG_FORMAT", description="Default: `text` on a terminal, `json` elsewhere."
    )
    log_level: Literal["debug", "info", "warning", "error"] = variable(
        "INNKEEPER_LOG_LEVEL", default="info", description="The least level that is written."
    )
    drain_seconds: Annotated[float, Field(ge=0, le=600)] = variable(
        "INNKEEPER_DRAIN_SECONDS",
        default=10.0,
        description="How long running streams and jobs may go on after a stop signal.",
    )


class DatabaseSettings(Section):
    """PostgreSQL 16 or later."""

    url: DatabaseUrl | None = variable(
        "DATABASE_URL",
        description="The application role. `up` without it starts its own PostgreSQL; `serve` refuses a role that "
        "is superuser, bypasses row-level security or owns tables.",
    )
    owner_url: DatabaseUrl | None = variable(
        "DATABASE_OWNER_URL",
        description="The role that owns the tables, for `migrate`, `keys`, `users`, `open`, `backup` and the like; "
        "`serve` and `worker` never use it.",
    )
    ops_url: DatabaseUrl | None = variable(
        "DATABASE_OPS_URL", description="The role of leases and jobs, which sees ids only. Required by `serve`."
    )
    direct_url: DatabaseUrl | None = variable(
        "DATABASE_DIRECT_URL", description="For LISTEN, when `DATABASE_URL` goes through a pooler such as PgBouncer."
    )
    pool_min: Annotated[int, Field(ge=0, le=100)] = variable(
        "INNKEEPER_DATABASE_POOL_MIN", default=1, description="Connections a process keeps open."
    )
    pool_max: Annotated[int, Field(ge=1, le=1000)] = variable(
        "INNKEEPER_DATABASE_POOL_MAX", default=10, description="Connections a process opens at most, a role."
    )
