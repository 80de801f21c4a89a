"""An issuer of tokens (OpenID Connect Discovery, RFC 7517): what it says of itself, its keys, and what it signs."""

from __future__ import annotations

import contextlib
import json
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from time import time
from typing import Any, Self

from joserfc import jws
from joserfc.jwk import ECKey, Key, OKPKey, RSAKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from tests.server.edge_services import served

AUDIENCE = "the-product"


class Lenient(jws.JWSRegistry):
    """Signs what is asked for, without a word about the older name of Ed25519."""

    def get_alg(self, name: str) -> Any:
        return self.algorithms[name]

    def check_header(self, header: dict[str, Any]) -> None:
        """Anything goes."""


def claims(issuer: str, **changes: Any) -> dict[str, Any]:
    """Of a token in order; ``None`` leaves a claim out."""
    said = {"iss": issuer, "aud": AUDIENCE, "sub": "ann", "exp": int(time()) + 600, "iat": int(time()), **changes}
    return {name: value for name, value in said.items() if value is not None}


@dataclass
class Issuer:
    """``url``: what it calls itself. ``document`` and ``keys`` may be changed while it runs; ``asked`` counts."""

    url: str = ""
    document: dict[str, Any] = field(default_factory=dict)
    keys: list[Key] = field(default_factory=list)
    people: dict[str, dict[str, Any]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    away: bool = False
    well_known: str = "openid-configuration"

    @classmethod
    @contextlib.asynccontextmanager
    async def opened(cls, path: str = "", well_known: str = "openid-configuration") -> AsyncIterator[Self]:
        issuer = cls(well_known=well_known)
        document = f"{path}/.well-known/{well_known}"
        if well_known != "openid-configuration":
            document = f"/.well-known/{well_known}{path}"
        routes = [
            Route(document, issuer._document),
            Route("/keys", issuer._keys),
            Route("/userinfo", issuer._userinfo),
        ]
        async with served(Starlette(routes=routes)) as (host, port):
            issuer.url = f"http://{host}:{port}{path}"
            issuer.document = {"issuer": issuer.url, "jwks_uri": f"http://{host}:{port}/keys"}
            issuer.keys = [issuer.new_key("first")]
            yield issuer

    @property
    def root(self) -> str:
        return "/".join(self.url.split("/")[:3])

    def new_key(self, kid: str) -> Key:
        return ECKey.generate_key("P-256", {"kid": kid, "use": "sig"})

    def token(self, key: Key | None = None, *, header: dict[str, Any] | None = None, **changes: Any) -> str:
        """Signed with the newest key, unless it is another one's."""
        used = key or self.keys[-1]
        algorithm = {"EC": "ES256", "RSA": "RS256", "OKP": "EdDSA", "oct": "HS256"}[used.key_type]
        said = {"alg": algorithm, "kid": used.get("kid"), **(header or {})}
        said = {name: value for name, value in said.items() if value is not None}
        payload = json.dumps(claims(self.url, **changes)).encode()
        return jws.serialize_compact({"typ": "JWT", **said}, payload, used, registry=Lenient(algorithms=[said["alg"]]))

    async def _document(self, request: Request) -> JSONResponse:
        self.asked.append("document")
        return JSONResponse(self.document, 503 if self.away else 200)

    async def _keys(self, request: Request) -> JSONResponse:
        self.asked.append("keys")
        return JSONResponse({"keys": [key.as_dict(private=False) for key in self.keys]}, 503 if self.away else 200)

    async def _userinfo(self, request: Request) -> JSONResponse:
        self.asked.append("userinfo")
        person = self.people.get(request.headers.get("authorization", ""))
        return JSONResponse(person or {"error": "invalid_token"}, 401 if person is None else 200)


def rsa() -> RSAKey:
    return RSAKey.generate_key(2048, {"kid": "rsa"})


def ed25519() -> OKPKey:
    return OKPKey.generate_key("Ed25519", {"kid": "ed"})


def unsigned(said: dict[str, Any], header: dict[str, Any]) -> str:
    parts = (urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in (header, said))
    return ".".join((*parts, ""))
