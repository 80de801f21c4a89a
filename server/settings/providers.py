"""With whom people may sign in: GitHub, Google, and any issuer of OpenID Connect."""

from __future__ import annotations

import json
import re
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, TypeAdapter, ValidationError, field_validator

from server.settings.section import HttpUrl, Section, variable
from server.settings.sign_in import Domains

LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")
TAKEN: Final = ("github", "google")
"""Names that are in callbacks of providers with settings of their own."""
_ID: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?")


def _check_issuer(value: str) -> str:
    if urlsplit(value).scheme != "https" and urlsplit(value).hostname not in LOOPBACK:
        raise ValueError("must be an https URL")
    return value


def _check_id(value: str) -> str:
    if not _ID.fullmatch(value):
        raise ValueError("must be 1 to 32 lower-case letters, digits and hyphens")
    if value in TAKEN:
        raise ValueError(f"must not be {' or '.join(TAKEN)}, which have settings of their own")
    return value


SecureUrl = Annotated[HttpUrl, AfterValidator(_check_issuer)]
"""https, or http on this machine."""


class OidcProvider(Section):
    """An issuer, as ``INNKEEPER_OIDC_PROVIDERS`` lists it. ``issuer`` is kept as it was given: issuers are compared
    character by character."""

    id: Annotated[str, AfterValidator(_check_id)]
    name: str = Field(default="", max_length=60)
    issuer: str
    client_id: str = Field(min_length=1)
    client_secret: SecretStr | None = None
    scopes: tuple[str, ...] = ("openid", "email", "profile", "offline_access")
    domains: Domains = ()
    trust_email: bool = False

    @field_validator("issuer")
    @classmethod
    def _issuer(cls, value: str) -> str:
        TypeAdapter(SecureUrl).validate_python(value)
        return value

    @field_validator("scopes")
    @classmethod
    def _scopes(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if "openid" not in value:
            raise ValueError("must hold openid")
        return value

    @property
    def title(self) -> str:
        return self.name or self.id


def _listed(value: object) -> object:
    """The JSON of the variable. Its faults name the entry and the field, never a value."""
    if not isinstance(value, str):
        return value
    try:
        found = json.loads(value)
    except ValueError:
        found = None
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise ValueError('must be a JSON list such as [{"id": "acme", "issuer": "https://...", "client_id": "..."}]')
    return tuple(_one(number, one) for number, one in enumerate(found, 1))


def _one(number: int, given: dict[str, Any]) -> OidcProvider:
    try:
        return OidcProvider.model_validate(given)
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(str(part) for part in fault["loc"])
        said = fault["msg"].removeprefix("Value error, ")
        raise ValueError(f"must be right in entry {number}: {where}: {said}") from None


def _check_providers(value: tuple[OidcProvider, ...]) -> tuple[OidcProvider, ...]:
    for field in ("id", "issuer"):
        if len({getattr(one, field) for one in value}) < len(value):
            raise ValueError(f"must have each {field} once")
    for one in value:
        if one.trust_email and not one.domains:
            raise ValueError(f"must name domains where it has trust_email, as {one.id} does not")
    return value


OidcProviders = Annotated[tuple[OidcProvider, ...], BeforeValidator(_listed), AfterValidator(_check_providers)]


class GitHubSettings(Section):
    client_id: str | None = variable(
        "GITHUB_CLIENT_ID", description="Sign-in with GitHub; the callback is `/api/auth/callback/github`."
    )
    client_secret: SecretStr | None = variable(
        "GITHUB_CLIENT_SECRET", description="The secret of that application. Sign-in needs both."
    )
    base_url: SecureUrl = variable(
        "GITHUB_BASE_URL",
        default="https://github.com",
        description="Where people sign in; of GitHub Enterprise Server its own address.",
    )
    api_url: SecureUrl = variable(
        "GITHUB_API_URL",
        default="https://api.github.com",
        description="The REST API; of GitHub Enterprise Server its address followed by `/api/v3`.",
    )


class GoogleSignInSettings(Section):
    client_id: str | None = variable(
        "GOOGLE_CLIENT_ID", description="Sign-in with Google; the callback is `/api/auth/callback/google`."
    )
    client_secret: SecretStr | None = variable(
        "GOOGLE_CLIENT_SECRET", description="The secret of that application. Sign-in needs both."
    )
    issuer: SecureUrl = variable(
        "GOOGLE_ISSUER",
        default="https://accounts.google.com",
        description="The issuer that is taken for Google's, for tests.",
    )


class OAuthSettings(Section):
    github: GitHubSettings = Field(default_factory=GitHubSettings)
    google: GoogleSignInSettings = Field(default_factory=GoogleSignInSettings)
    oidc: OidcProviders = variable(
        "INNKEEPER_OIDC_PROVIDERS",
        default=(),
        description="Further issuers of OpenID Connect, as a JSON list of objects: `id` (in the callback "
        "`/api/auth/callback/{id}`), `name` (on the button), `issuer`, `client_id`, `client_secret` (unless the client "
        "is public), `scopes`, `domains` (the only ones whose addresses it may vouch for), `trust_email` (those "
        "count as verified although the issuer does not say `email_verified`; needs `domains`).",
    )
