"""The mails of the house as people see them: a subject, a text and HTML for light and dark, from one design."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from server.vault import Vault
from tools.mailboxes import LONGEST_NAME, one_line

if TYPE_CHECKING:
    from jinja2 import Environment

    from server.keyring import Keyring

FOLDER: Final = Path(__file__).parent / "designs"
NO_PROJECT: Final = UUID(int=0)
SECRET_COLUMN: Final = "house_mails.secret"  # noqa: S105  a name
SUBJECTS: Final = {
    "welcome": "Welcome to Innkeeper",
    "first_message": "Your agent got its first message",
    "magic_link": "Your link to sign in to Innkeeper",
    "invitation": "{inviter} invites you to {project}",
    "message_limit": "{project} has used up its {what} of this month",
}
UNASKED: Final = frozenset({"welcome", "first_message", "message_limit"})
"""Mail that one may unsubscribe from; the others somebody has just asked for."""


@dataclass(frozen=True, slots=True)
class Rendered:
    subject: str
    text: str
    html: str


def sealed(keyring: Keyring, link: str) -> bytes:
    """An address that opens something, as it may be written down until its mail has left."""
    return Vault(keyring).seal(NO_PROJECT, SECRET_COLUMN, link)


def opened(keyring: Keyring, secret: bytes) -> str:
    """Raises ``AppError`` when it was sealed under a root secret that is gone."""
    return Vault(keyring).open(NO_PROJECT, SECRET_COLUMN, secret)


def render(
    kind: str,
    variables: Mapping[str, Any],
    *,
    name: str,
    house_url: str,
    link: str = "",
    expires_at: datetime | None = None,
    unsubscribe: str | None = None,
) -> Rendered:
    """``link``: what the button of a mail with a secret opens. Names are cut and made one line: people chose them."""
    known = {key: _name(str(value)) for key, value in variables.items()}
    subject = SUBJECTS[kind].format_map(known)
    values = {
        **known,
        "name": _name(name),
        "subject": subject,
        "house_url": house_url.rstrip("/"),
        "link": link,
        "until": expires_at.astimezone(UTC) if expires_at else None,
        "unsubscribe": unsubscribe,
    }
    return Rendered(subject, _made(f"{kind}.txt", values), _made(f"{kind}.html", values))


def _made(template: str, values: Mapping[str, Any]) -> str:
    return _environment().get_template(template).render(**values).strip() + "\n"


def _name(text: str) -> str:
    try:
        return one_line(" ".join(text.split()))[:LONGEST_NAME]
    except ValueError:
        return ""


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

    return Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
