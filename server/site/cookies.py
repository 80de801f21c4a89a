"""Signed cookies: short claims as a JWT that this house made, for one use, until a moment."""

from __future__ import annotations

from collections.abc import Mapping
from time import time
from typing import Any, Final

from server.keyring import Keyring

ALGORITHM: Final = "HS256"


class Signer:
    """Signs under the root secret in use, reads what was signed under any that is accepted. ``use`` keeps cookies of
    one kind from passing as another."""

    def __init__(self, keyring: Keyring, use: str) -> None:
        self._keyring = keyring
        self._use = use

    def sign(self, claims: Mapping[str, Any], seconds: int) -> str:
        # Most processes never show a page, so they never pay for this import.
        from joserfc import jwt
        from joserfc.jwk import OctKey

        now = int(time())
        key_id, key = self._keys()[0]
        header = {"alg": ALGORITHM, "kid": key_id}
        return jwt.encode(
            header, {**claims, "aud": self._use, "iat": now, "exp": now + seconds}, OctKey.import_key(key)
        )

    def read(self, value: str) -> dict[str, Any] | None:
        """The claims of a cookie; ``None`` when it is not one of ours, of another use, or has expired."""
        if value.count(".") != 2:
            return None
        from joserfc import jwt
        from joserfc.errors import JoseError
        from joserfc.jwk import OctKey

        for _, key in self._keys():
            try:
                claims = jwt.decode(value, OctKey.import_key(key), algorithms=[ALGORITHM]).claims
            except (JoseError, ValueError):
                continue
            current = isinstance(claims.get("exp"), int) and time() < claims["exp"]
            return claims if current and claims.get("aud") == self._use else None
        return None

    def _keys(self) -> tuple[tuple[str, bytes], ...]:
        return self._keyring.signing_keys(f"cookie/{self._use}")
