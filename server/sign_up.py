"""Who may have an account made: the one answer for every way of signing in."""

from __future__ import annotations

from db import invitations
from db.database import Database
from server.settings.sign_in import SignInSettings


async def may_sign_up(settings: SignInSettings, database: Database, address: str) -> bool:
    """Whether ``address``, which whoever signs in has proven to be theirs, may have an account. An invitation opens the
    door that is open to the invited alone, and no domain that the operator has closed.

    What is asked of the database does not depend on whether there is an account.
    """
    closed_by = settings.closed_by(address)
    return closed_by is None or (closed_by == "invitation" and await invitations.is_invited(database, address))
