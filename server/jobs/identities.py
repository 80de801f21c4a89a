"""Asks issuers, at least daily, whether the accounts that open ours still are accounts there.

One that is refused is suspended: its sessions end, its grants rest, on every process. An issuer that does not answer
changes nothing: it is asked again, in a while and with the next look.
"""

from __future__ import annotations

import logging
from typing import Final
from uuid import UUID

from db import identities
from db.errors import AppError
from server.issuers.issuer import RefusedError
from server.issuers.keeping import opened, sealed
from server.jobs.job import JobCall
from server.vault import Vault

BATCH: Final = 1000
_log = logging.getLogger("innkeeper.identities")


async def look_at_identities(job: JobCall) -> None:
    """Add a job for each account at an issuer that has not been asked about for half a day."""
    after: UUID | None = UUID(int=0)
    while after is not None:
        async with job.services.database.ops_statements() as connection:
            after = await identities.look(connection, after, BATCH)


async def recheck_identity(job: JobCall) -> None:
    """Ask the issuer about the account ``identity_id``, and keep its new token or suspend what came of it."""
    identity = job.uuid("identity_id")
    database, vault = job.services.database, Vault(job.services.keyring)
    async with database.ops_statements() as connection:
        found = await identities.to_check(connection, identity)
    if found is None:
        return
    issuer = job.services.issuers.get(found.provider)
    if issuer is None or issuer.issuer != found.issuer:
        _log.warning("%s is not in the settings: nobody asks about its accounts", found.issuer)
        return
    token = opened(vault, identity, found.sealed)
    try:
        after = sealed(vault, identity, await issuer.recheck(found.subject, token))
    except RefusedError:
        after = None
    except AppError as error:
        if job.attempt < job.attempts and error.retryable:
            raise
        # It is looked at again within the hour; a job that is dead each time would only bury others.
        _log.warning("an account at %s could not be asked about: %s", found.issuer, error.message)
        return
    async with database.ops_statements() as connection:
        await identities.checked(connection, identity, found.seen, after)
