"""The ID token of OpenID Connect (Core 1.0, 3.1.3.7): signed by the issuer, for us, now, in answer to what we asked."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from server.issuers.discovery import Published
from server.issuers.issuer import wrong_answer

if TYPE_CHECKING:
    from joserfc.jwk import KeySet

LEEWAY: Final = 60
"""Seconds that clocks may differ."""


async def claims_of(
    title: str,
    published: Published,
    id_token: object,
    *,
    issuer: str,
    client_id: str,
    nonce: str | None,
    access_token: str,
) -> dict[str, Any]:
    """Raises ``AppError`` unless everything is right. ``nonce``: ``None`` for one that comes of a refresh (12.2)."""
    from authlib.oidc.core import CodeIDToken  # type: ignore[import-untyped]  # it brings no types
    from joserfc.errors import JoseError

    if not isinstance(id_token, str):
        raise wrong_answer(title, "there is no ID token in it")
    exactly = {"iss": {"essential": True, "value": issuer}, "aud": {"essential": True, "value": client_id}}
    asked = {"client_id": client_id, "access_token": access_token, "nonce": nonce}
    try:
        decoded = await _decoded(published, id_token)
        claims = CodeIDToken(decoded.claims, decoded.header, exactly, asked)
        claims.validate(leeway=LEEWAY)
    except (JoseError, ValueError) as error:
        raise wrong_answer(title, "its ID token is not valid here") from error
    if not isinstance(claims["sub"], str) or not 1 <= len(claims["sub"]) <= 255:
        raise wrong_answer(title, "its ID token names nobody")
    return dict(claims)


async def _decoded(published: Published, id_token: str) -> Any:
    from joserfc import jwt
    from joserfc.errors import InvalidKeyIdError
    from joserfc.jws import JWSRegistry

    registry = JWSRegistry(algorithms=list((await published.metadata()).algorithms), strict_check_header=False)
    try:
        return jwt.decode(id_token, _key_set(await published.keys()), registry=registry)
    except InvalidKeyIdError:
        return jwt.decode(id_token, _key_set(await published.keys(anew=True)), registry=registry)


def _key_set(published: Mapping[str, Any]) -> KeySet:
    """Those of the keys that are of a kind we know: an issuer may have others for others."""
    from joserfc.errors import JoseError
    from joserfc.jwk import JWKRegistry, KeySet

    found = []
    for one in published["keys"]:
        with suppress(JoseError, ValueError, KeyError, TypeError):
            found.append(JWKRegistry.import_key(one))
    return KeySet(found)
