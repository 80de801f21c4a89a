"""A section of the settings: fields that say which variables they are read from."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr


class Section(BaseModel):
    """Frozen, and silent about its input: a fault never repeats the value that caused it."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", hide_input_in_errors=True, validate_by_name=True, validate_by_alias=True
    )


def variable(*names: str, description: str, default: Any = None, used_from: str | None = None) -> Any:
    """A field read from the first of ``names`` that is set.

    ``used_from`` names the feature that reads it, when that feature is not part of this version: the variable is
    accepted and checked, and the generated table says so.
    """
    return Field(
        default,
        validation_alias=AliasChoices(*names),
        description=description,
        json_schema_extra={"used_from": used_from},
    )


def variable_names(section: type[Section], field: str) -> tuple[str, ...]:
    """The variables of a field, the preferred one first."""
    choices = section.model_fields[field].validation_alias
    if not isinstance(choices, AliasChoices):
        raise TypeError(f"{section.__name__}.{field} is not declared with variable()")
    return tuple(str(choice) for choice in choices.choices)


def split_commas(value: object) -> object:
    """What a comma-separated variable is read into before its parts are checked."""
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


def _check_http_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be an http or https URL with a host, such as https://innkeeper.example.com")
    if parts.query or parts.fragment or parts.username:
        raise ValueError("must be a plain URL, without user, query or fragment")
    return value.rstrip("/")


def _check_database_url(value: SecretStr) -> SecretStr:
    url = value.get_secret_value()
    scheme, separator, rest = url.partition("://")
    if not separator or scheme.partition("+")[0] not in ("postgres", "postgresql"):
        raise ValueError("must be a PostgreSQL URL, such as postgresql://user:password@host:5432/database")
    try:
        parts = urlsplit(f"postgresql://{rest}")
        _ = parts.port
    except ValueError:
        raise ValueError(
            "must be a PostgreSQL URL whose port is a number and whose password is percent-encoded"
        ) from None
    if not parts.path.strip("/"):
        raise ValueError("must name a database, as in postgresql://user:password@host:5432/database")
    return SecretStr(f"postgresql://{rest}")


Names = Annotated[tuple[str, ...], BeforeValidator(split_commas)]
"""A comma-separated list."""
HttpUrl = Annotated[str, AfterValidator(_check_http_url)]
"""Kept as text, without a trailing slash."""
DatabaseUrl = Annotated[SecretStr, AfterValidator(_check_database_url)]
"""``postgres://`` and ``postgresql+driver://`` become ``postgresql://``."""
