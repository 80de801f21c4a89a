"""Signatures of other people's tokens (RFC 7515), under keys whose kind decides which algorithms there are.

An algorithm is never taken from a token alone: a key of an issuer, or a pinned one, checks signatures of its own kind
only, and nothing asymmetric is ever a secret of HS256.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from db.errors import AppError, invalid

if TYPE_CHECKING:
    from joserfc.jwk import Key

KeyList: TypeAlias = "tuple[Key, ...]"
ASYMMETRIC: Final[Mapping[str, tuple[str, str | None]]] = {
    **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), ("RSA", None)),
    "ES256": ("EC", "P-256"),
    "ES384": ("EC", "P-384"),
    "ES512": ("EC", "P-521"),
    "EdDSA": ("OKP", "Ed25519"),
    "Ed25519": ("OKP", "Ed25519"),
}
"""The algorithms that keys of issuers may have: which kind of key, and on which curve."""
SECRET: Final = "HS256"  # noqa: S105  the name of an algorithm
LONGEST_HEADER: Final = 4096
MOST_KEYS: Final = 100
MOST_TRIED: Final = 10
RSA_BITS: Final = range(2048, 8193)
SHORTEST_SECRET: Final = 32
"""Bytes of a secret of HS256 (RFC 7518, 3.2)."""


def keys_of(document: Mapping[str, Any]) -> KeyList:
    """Those keys of a JWK set (RFC 7517) that tokens may be signed under; what cannot be one is passed over."""
    listed = document.get("keys")
    found = (_imported(key) for key in listed[:MOST_KEYS] if isinstance(key, dict)) if isinstance(listed, list) else ()
    return tuple(key for key in found if key is not None)


def pinned(text: str) -> Key:
    """The public key in ``text``: PEM, or a JWK as JSON. Raises ``AppError`` for what is none that signs tokens."""
    key = None
    if text.lstrip().startswith("{"):
        try:
            document = json.loads(text)
        except (ValueError, RecursionError):
            document = None
        key = _imported(document) if isinstance(document, dict) else None
    else:
        key = _of_pem(text)
    if key is None:
        raise invalid(
            "This is no public key that tokens are signed under.",
            "Give a PEM (BEGIN PUBLIC KEY) or a JWK: RSA of 2048 to 8192 bits, EC P-256, P-384 or P-521, or Ed25519. "
            "Never give a private key.",
        )
    return key


def fitting(keys: Iterable[Key], algorithm: str, kid: object) -> KeyList:
    """Those that a signature of ``algorithm`` by the key ``kid`` could be of; all of that kind where no ``kid`` is
    named."""
    kind = ASYMMETRIC.get(algorithm)
    return tuple(
        key
        for key in keys
        if (key.key_type, key.get("crv")) == kind
        and key.get("alg") in (None, algorithm)
        and (kid is None or key.get("kid") in (None, kid))
    )[:MOST_TRIED]


def signed_under(token: str, key: Key, algorithm: str) -> bool:
    """Whether the signature of a compact JWS is good. Header parameters that must be understood and are not
    (``crit``) make it bad."""
    from joserfc.errors import JoseError
    from joserfc.jws import JWSRegistry, deserialize_compact

    class Registry(JWSRegistry):
        max_header_length = LONGEST_HEADER

        def get_alg(self, name: str) -> Any:
            # Not only "recommended" ones, and without its warning about the older name of Ed25519.
            return self.algorithms[name] if name == algorithm else super().get_alg(name)

    try:
        deserialize_compact(token, key, registry=Registry(algorithms=[algorithm], strict_check_header=False))
    except (JoseError, ValueError, KeyError, TypeError):
        return False
    return True


def secret_key(secret: str) -> Key:
    from joserfc.jwk import OctKey

    return OctKey.import_key(secret)


def _imported(document: dict[str, Any]) -> Key | None:
    from joserfc.errors import JoseError
    from joserfc.jwk import JWKRegistry

    kind = (document.get("kty"), document.get("crv") if document.get("kty") != "RSA" else None)
    if kind not in ASYMMETRIC.values() or "d" in document or document.get("use", "sig") != "sig":
        return None
    if kind[0] == "RSA" and _bits(document.get("n")) not in RSA_BITS:
        return None
    try:
        key: Key = JWKRegistry.import_key(document)
        key.get_op_key("verify")
    except (JoseError, ValueError, TypeError, KeyError):
        return None
    return key


def _of_pem(text: str) -> Key | None:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key
    from joserfc.errors import JoseError
    from joserfc.jwk import JWKRegistry

    try:
        loaded = load_pem_public_key(text.encode())
        if isinstance(loaded, RSAPublicKey):
            kind = "RSA" if loaded.key_size in RSA_BITS else None
        else:
            kind = {True: "EC"}.get(isinstance(loaded, EllipticCurvePublicKey))
            kind = "OKP" if isinstance(loaded, Ed25519PublicKey) else kind
        key: Key | None = None if kind is None else JWKRegistry.import_key(text, kind)
    except (ValueError, UnsupportedAlgorithm, JoseError):
        return None
    if key is None or (key.key_type, key.get("crv")) not in ASYMMETRIC.values():
        return None
    return key


def _bits(modulus: object) -> int:
    return len(modulus.rstrip("=")) * 6 // 8 * 8 if isinstance(modulus, str) else 0


def too_short(secret: str) -> AppError | None:
    """Why a secret is none for HS256."""
    if len(secret.encode()) >= SHORTEST_SECRET:
        return None
    return invalid(f"A secret of HS256 has at least {SHORTEST_SECRET} bytes.", "Make one with: openssl rand -base64 48")
