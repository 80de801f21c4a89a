"""What who runs the house does on its command line, for the audit log: on the owner's connection.

The table says from where by itself: the connection was told (:func:`server.roles.connect`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from uuid import UUID

from db.ids import uuid7

if TYPE_CHECKING:
    from db.accounts import Owner

OPERATOR: Final = UUID(int=0)
"""Stands in the place of a credential, and in that of an account where an act concerns none."""


async def note(
    owner: Owner, action: str, target: str, *, about: UUID = OPERATOR, project_id: UUID | None = None
) -> None:
    """``about``: the account it concerns."""
    await owner.execute(
        "INSERT INTO audit (id, credential_id, user_id, project_id, action, target) VALUES ($1, $2, $3, $4, $5, $6)",
        *(uuid7(), OPERATOR, about, project_id, action, target),
    )
