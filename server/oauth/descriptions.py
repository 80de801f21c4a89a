"""What a client says of itself (RFC 7591 2), in a registration or in the document at its client_id, checked."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from typing import Any, Final, cast

from db.errors import AppError
from db.oauth.clients import AUTHORIZATION_CODE, DEVICE_CODE, REFRESH_TOKEN, AuthMethod, Described
from server.oauth import redirects

MOST_REDIRECTS: Final = 20
LONGEST_NAME: Final = 80
GRANTS: Final = frozenset({AUTHORIZATION_CODE, REFRESH_TOKEN, DEVICE_CODE})
METHODS: Final = frozenset({"none", "client_secret_basic", "client_secret_post"})
UNNAMED: Final = "An application without a name"
_INVISIBLE: Final = frozenset({"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"})


def described(document: Mapping[str, Any], *, default_method: AuthMethod) -> Described:
    """Raises ``AppError`` with the codes of RFC 7591 3.2.2. What a client does not say gets the usual value; what is
    asked for beyond what there is, it does not get."""
    grants = _texts(document, "grant_types", [AUTHORIZATION_CODE, REFRESH_TOKEN])
    usable = GRANTS.intersection(grants)
    if not usable & {AUTHORIZATION_CODE, DEVICE_CODE}:
        raise _wrong("grant_types must have authorization_code or the device code grant.")
    if AUTHORIZATION_CODE in usable and "code" not in _texts(document, "response_types", ["code"]):
        raise _wrong("response_types must have code.")
    uris = _texts(document, "redirect_uris", [])
    if AUTHORIZATION_CODE in usable and not 0 < len(uris) <= MOST_REDIRECTS:
        raise AppError(
            "invalid_redirect_uri", 400, f"redirect_uris must hold 1 to {MOST_REDIRECTS} addresses.", "Name them."
        )
    for uri in uris:
        redirects.check(uri)
    method = document.get("token_endpoint_auth_method") or default_method
    if method not in METHODS:
        raise _wrong(f"token_endpoint_auth_method must be one of {', '.join(sorted(METHODS))}.")
    return Described(
        name=shown_name(document.get("client_name")),
        uri=_web_address(document.get("client_uri")),
        redirect_uris=tuple(dict.fromkeys(uris)),
        grant_types=usable | ({REFRESH_TOKEN} if "grant_types" not in document else frozenset()),
        auth_method=cast("AuthMethod", method),
    )


def shown_name(name: object) -> str:
    """A name as it can be shown: one line, nothing invisible, nothing that turns the direction of text."""
    if not isinstance(name, str):
        return UNNAMED
    visible = "".join(" " if letter.isspace() else letter for letter in name[:1000])
    visible = "".join(letter for letter in visible if unicodedata.category(letter) not in _INVISIBLE)
    return " ".join(visible.split())[:LONGEST_NAME].strip() or UNNAMED


def _texts(document: Mapping[str, Any], name: str, default: list[str]) -> list[str]:
    found = document.get(name)
    if found is None:
        return default
    if not isinstance(found, list) or len(found) > 100 or not all(isinstance(value, str) for value in found):
        raise _wrong(f"{name} must be a list of texts.")
    return found


def _web_address(uri: object) -> str | None:
    """The client's home page, if it can be shown: https, and nothing that looks like another place."""
    if not isinstance(uri, str) or not uri.startswith("https://"):
        return None
    try:
        redirects.check(uri)
    except AppError:
        return None
    return uri


def _wrong(message: str) -> AppError:
    return AppError("invalid_client_metadata", 400, message, "See RFC 7591, 2.")
