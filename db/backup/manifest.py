"""What an archive says of itself. It is the archive's last member, so an archive cut short has none."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field

from db.errors import AppError

NAME = "manifest.json"
FORMAT = 1


@dataclass(frozen=True, slots=True)
class Member:
    """Size in bytes and SHA-256 in hex of one file of the archive."""

    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """``postgresql``: major version of the server that was dumped. ``roles``: those that grants and policies name,

    ``owner``, who made the dump, among them.
    """

    created_at: str
    innkeeper: str
    postgresql: int
    alembic_revision: str | None
    owner: str
    roles: list[str]
    members: dict[str, Member] = field(default_factory=dict)
    format: int = FORMAT

    def encode(self) -> bytes:
        return json.dumps(asdict(self), indent=1, sort_keys=True).encode()

    @classmethod
    def decode(cls, content: bytes) -> Manifest:
        """Raises ``AppError`` ``backup_damaged`` for what is none, or of another format."""
        try:
            found = json.loads(content)
            if found["format"] != FORMAT:
                raise damaged(f"its format is {found['format']}, and this Innkeeper reads format {FORMAT}")
            found["members"] = {name: Member(**member) for name, member in found["members"].items()}
            return cls(**found)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise damaged("its manifest cannot be read") from error


def damaged(why: str) -> AppError:
    """``why`` is the part of the sentence that says what is wrong."""
    return AppError(
        "backup_damaged",
        422,
        f"The archive cannot be restored: {why}. Nothing was changed.",
        "Use another copy of the archive, made by 'innkeeper backup' of this or an older version.",
    )
