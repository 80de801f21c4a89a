"""A token from a file: whether it is written down well, and why a server refuses it. It is never shown."""

from __future__ import annotations

import json
import sys
from base64 import urlsafe_b64decode
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from db.tokens import is_bearer
from server.diagnosis.wire import Reply, shown
from server.finding import Finding
from server.refusal import Refusal

LONGEST: Final = 64 * 1024
OURS: Final = "ik_"


def read(path: Path) -> tuple[str, list[Finding]]:
    """The token, and what is to be said of the file. Raises :class:`Refusal` for a file that cannot be read."""
    try:
        raw = path.read_bytes()[:LONGEST].decode()
        mode = path.stat().st_mode
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not text"
        raise Refusal(f"--token-file {path} cannot be read ({why}).") from None
    findings = []
    if sys.platform != "win32" and mode & 0o077:
        said = f"Others on this computer may read {path}: chmod 600 {path}"
        findings.append(Finding("token", "warn", said))
    token = raw.strip()
    if token[:7].lower() == "bearer ":
        token = token[7:].strip()
        findings.append(Finding("token", "note", "The file begins with 'Bearer': clients that add it say it twice."))
    if token[:1] == token[-1:] and token[:1] in ("'", '"') and len(token) > 1:
        token = token[1:-1]
        findings.append(Finding("token", "warn", "The token stands in quotes, which are no part of it: take them out."))
    if not token or not token.isascii() or any(letter.isspace() or not letter.isprintable() for letter in token):
        raise Refusal(f"--token-file {path} holds no token: put the token in it, and nothing else.")
    return token, findings


def refused(reply: Reply, token: str, url: str) -> Finding:
    """Why the server says 401 or 403 to ``token``."""
    if reply.status == 403 or reply.challenge.get("error") == "insufficient_scope":
        scopes = reply.challenge.get("scope")
        wanted = f"it wants {shown(scopes)}" if scopes else reply.said
        return Finding("scope", "fault", f"The token lacks rights ({wanted}): sign in again, and allow these scopes.")
    if token.startswith(OURS) and not is_bearer(token):
        said = "The token is no whole access token or key of an Innkeeper: cut off, mistyped, or of another kind."
        return Finding("token", "fault", f"{said} Copy it again.")
    if (why := _known(token, url)) is not None:
        return Finding("token", "fault", why)
    said = reply.said or "no reason given"
    if "error" not in reply.challenge and not reply.said:
        said += ", as to who brings no token: a proxy may take the Authorization header out"
    if "expire" in said.lower() and "unknown" not in said.lower():
        return Finding("token", "fault", f"The token has expired ({said}): refresh it, or sign in again.")
    if "audience" in said.lower() or "resource" in said.lower():
        return Finding("token", "fault", f"The token is for another server ({said}): sign in for {url}.")
    return Finding(
        "token",
        "fault",
        f"The token is refused ({said}): it may be expired, revoked or of another server; sign in again.",
    )


def _known(token: str, url: str) -> str | None:
    """What a JWT says of itself; nothing is verified, since only its server can."""
    claims = _claims(token)
    if claims is None:
        return None
    until = claims.get("exp")
    if isinstance(until, (int, float)) and until < datetime.now(UTC).timestamp():
        ended = datetime.fromtimestamp(until, UTC)
        return f"The token expired on {ended:%Y-%m-%d at %H:%M} UTC: refresh it, or sign in again."
    begins = claims.get("nbf")
    if isinstance(begins, (int, float)) and begins > datetime.now(UTC).timestamp():
        return "The token is not valid yet: check the clock of this computer, and of the server that made it."
    audience = claims.get("aud")
    meant = [audience] if isinstance(audience, str) else audience if isinstance(audience, list) else []
    here = url.partition("?")[0]
    if meant and here not in meant and here.rsplit("/", 1)[0] not in meant:
        said = f"The token is for {shown(', '.join(map(str, meant)))}, not for {here}"
        return f"{said}: ask for one with resource={here} (RFC 8707)."
    return None


def _claims(token: str) -> dict[str, Any] | None:
    pieces = token.split(".")
    if len(pieces) != 3:
        return None
    try:
        found = json.loads(urlsafe_b64decode(pieces[1] + "=" * (-len(pieces[1]) % 4)))
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
