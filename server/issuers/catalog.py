"""The issuers that the settings name, by their ids, in the order of the buttons."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from server.issuers.github import GitHub
from server.issuers.openid import OpenIdIssuer

if TYPE_CHECKING:
    from server.issuers.issuer import Issuer
    from server.settings.providers import OAuthSettings, OidcProvider


def issuers_of(settings: OAuthSettings) -> Mapping[str, Issuer]:
    found: list[Issuer] = []
    google, github = settings.google, settings.github
    if google.client_id and google.client_secret:
        secret = google.client_secret.get_secret_value()
        # Google's words for what others call the scope offline_access.
        offline = {"access_type": "offline"}
        found.append(OpenIdIssuer("google", "Google", google.issuer, google.client_id, secret, further=offline))
    if github.client_id and github.client_secret:
        secret = github.client_secret.get_secret_value()
        found.append(GitHub(github.base_url, github.api_url, github.client_id, secret))
    found.extend(_listed(one) for one in settings.oidc)
    return {one.id: one for one in found}


def _listed(one: OidcProvider) -> OpenIdIssuer:
    return OpenIdIssuer(
        one.id,
        one.title,
        one.issuer,
        one.client_id,
        one.client_secret.get_secret_value() if one.client_secret else None,
        one.scopes,
        domains=one.domains,
        trust_email=one.trust_email,
    )
