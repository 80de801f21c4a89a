"""Authorization requests (RFC 6749 4.1.1, with PKCE, resource indicators and OAuth 2.1's strictness), read and checked.

Nothing here knows of a person, a page or a database: a request is what it is, whoever looks at it.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import Final
from urllib.parse import SplitResult, parse_qsl, urlencode, urlsplit

from db.errors import AppError
from db.oauth.clients import AUTHORIZATION_CODE, Client
from server.oauth import redirects, scopes

LONGEST_STATE: Final = 4096
_CHALLENGE: Final = re.compile(r"[A-Za-z0-9_-]{43}")  # RFC 7636 4.2: SHA-256 in base64url without padding
_REPEATABLE: Final = frozenset({"resource"})  # RFC 8707 2
_PROMPTS: Final = frozenset({"none", "login", "consent", "select_account"})


@dataclass(frozen=True, slots=True)
class Return:
    """Where the answer to a request goes. ``issuer`` is said with every answer (RFC 9207)."""

    redirect_uri: str
    state: str | None
    issuer: str

    def address(self, **answer: str) -> str:
        """The redirect URI with ``answer``, the state and the issuer in its query."""
        told = {**answer, **({} if self.state is None else {"state": self.state}), "iss": self.issuer}
        joint = "&" if urlsplit(self.redirect_uri).query else "" if self.redirect_uri.endswith("?") else "?"
        return f"{self.redirect_uri}{joint}{urlencode(told)}"


@dataclass(frozen=True, slots=True)
class AuthorizationRequest:
    """A request in order. ``scopes``: ``None`` when the client leaves the choice to the person."""

    client: Client
    back: Return
    challenge: str
    scopes: tuple[str, ...] | None
    audience: str
    prompts: frozenset[str]


class RequestError(Exception):
    """A request of a known client, wrong in a way that the client is to be told (RFC 6749 4.1.2.1)."""

    def __init__(self, back: Return, error: AppError) -> None:
        super().__init__(error.code)
        self.back = back
        self.error = error

    @property
    def address(self) -> str:
        return self.back.address(error=self.error.code, error_description=description(self.error))


class Parameters(dict[str, str]):
    """The parameters of a query or a form. ``repeated``: what came more than once and must not (RFC 6749 3.1).
    Parameters without a value count as missing."""

    def __init__(self, encoded: str) -> None:
        pairs = [(name, value) for name, value in parse_qsl(encoded, keep_blank_values=True) if value]
        super().__init__(pairs)
        counted = Counter(name for name, _ in pairs)
        self.repeated = sorted(name for name, count in counted.items() if count > 1 and name not in _REPEATABLE)
        self.resources = [value for name, value in pairs if name == "resource"]


def returning(parameters: Parameters, client: Client, issuer: str) -> Return:
    """Where the answer may go. Raises ``AppError`` when it may go nowhere: that is told to the person alone."""
    redirect_uri = parameters.get("redirect_uri", "")
    if "redirect_uri" in parameters.repeated or not redirects.matches(redirect_uri, client.redirect_uris):
        raise AppError(
            "redirect_uri_unknown",
            400,
            "The application asks to be answered at an address that it has not registered.",
            "Nothing was allowed. If you trust the application, connect it again from the beginning.",
        )
    state = parameters.get("state")
    if "state" in parameters.repeated or len(state or "") > LONGEST_STATE:
        state = None
    return Return(redirect_uri, state, issuer)


def read(parameters: Parameters, client: Client, back: Return, resource: str) -> AuthorizationRequest:
    """The request, or :class:`RequestError`. ``resource``: what tokens of this house are for."""
    try:
        _check_form(parameters, client)
        asked = scopes.parse(parameters.get("scope"))
        prompts = frozenset(parameters.get("prompt", "").split(" ")) & _PROMPTS
        if "none" in prompts and len(prompts) > 1:
            raise _wrong("prompt=none stands alone.")
        return AuthorizationRequest(
            client=client,
            back=back,
            challenge=parameters["code_challenge"],
            scopes=None if asked is None else tuple(asked),
            audience=audience_of(parameters.resources, resource) or resource,
            prompts=prompts,
        )
    except AppError as error:
        raise RequestError(back, error) from error


def _check_form(parameters: Parameters, client: Client) -> None:
    if parameters.repeated:
        raise _wrong(f"{parameters.repeated[0][:40]} comes more than once.")
    for name in ("request", "request_uri"):
        if name in parameters:
            raise AppError(f"{name}_not_supported", 400, f"{name} is not supported.", "Send plain parameters.")
    if "response_type" not in parameters:
        raise _wrong("response_type is missing.")
    if parameters["response_type"] != "code":
        raise AppError(
            "unsupported_response_type", 400, "response_type must be code.", "Use the authorization code flow."
        )
    if parameters.get("response_mode", "query") != "query":
        raise _wrong("response_mode must be query.")
    if AUTHORIZATION_CODE not in client.grant_types:
        raise AppError("unauthorized_client", 400, "This client may not use this flow.", "Register it for the flow.")
    if parameters.get("code_challenge_method") != "S256":
        raise _wrong("PKCE is required: code_challenge_method must be S256.")
    if not _CHALLENGE.fullmatch(parameters.get("code_challenge", "")):
        raise _wrong("PKCE is required: code_challenge must be 43 characters of base64url.")


def audience_of(resources: list[str], ours: str) -> str | None:
    """``ours`` when all ``resources`` mean it, ``None`` when none is named. Raises ``AppError`` ``invalid_target``.

    A slash at the end and a query, as clients put them there, do not make another resource (RFC 3986 6.2).
    """
    if any(_plain(resource) != _plain(ours) for resource in resources):
        raise AppError("invalid_target", 400, f"Tokens of this server are for {ours}.", f"Ask with resource={ours}.")
    return ours if resources else None


def _plain(uri: str) -> SplitResult | None:
    try:
        parts = urlsplit(uri)
        port = parts.port
    except ValueError:
        return None
    if parts.fragment or "@" in parts.netloc or not uri.isascii() or not uri.isprintable():
        return None
    default = {"http": 80, "https": 443}.get(parts.scheme)
    host = (parts.hostname or "") + (f":{port}" if port not in (None, default) else "")
    return SplitResult(parts.scheme, host, parts.path.rstrip("/"), "", "")


def description(error: AppError) -> str:
    """The text of an error in the characters that RFC 6749 4.1.2.1 lets it have."""
    text = f"{error.message} {error.hint or ''}".strip().replace('"', "'").replace("\\", "/")
    return text.encode("ascii", "ignore").decode()


def _wrong(message: str) -> AppError:
    return AppError("invalid_request", 400, message, "See RFC 6749, 4.1.1, and RFC 7636.")
