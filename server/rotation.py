"""Bringing every sealed secret under the root in use, while the house serves (``innkeeper keys rotate``).

In batches, each a short transaction; a row that was written meanwhile is left as it was written. Whatever was done when
this stops stays done, and the next start goes on with the rest.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple
from uuid import UUID

from db.email_accounts import SEALED as EMAIL_SECRETS
from db.errors import AppError
from db.identities import TOKEN as IDENTITY_TOKENS
from db.provider_keys import SEALED as PROVIDER_KEYS
from db.registry_sync import SECRET as SOURCE_SECRETS
from db.token_sources import SEALED as TOKEN_SECRETS
from server.terminal import Progress
from server.vault import Vault, key_id_of

if TYPE_CHECKING:
    import asyncpg

    from server.roles import Connection

BATCH: Final = 200
FIRST: Final = (UUID(int=0), UUID(int=0))


class SealedColumn(NamedTuple):
    """A column that holds sealed secrets. ``row``: the column that tells its rows apart to the vault, as text; empty
    when there is none. ``tenant``: the column of whose they are: a project's, or in a table of the house the row's
    own."""

    place: str
    row: str = ""
    tenant: str = "project_id"

    @property
    def table(self) -> str:
        return self.place.partition(".")[0]

    @property
    def column(self) -> str:
        return self.place.partition(".")[2]


SEALED_COLUMNS: Final = (
    SealedColumn(PROVIDER_KEYS, "provider"),
    SealedColumn(SOURCE_SECRETS, "id::text"),
    SealedColumn(EMAIL_SECRETS, "kind"),
    SealedColumn(TOKEN_SECRETS, "id::text"),
    SealedColumn(IDENTITY_TOKENS, tenant="id"),
)
"""All of them: a test asks that no column of bytes is forgotten, and that ``sealed_under()`` counts each."""


@dataclass
class Resealed:
    """``sealed_anew`` secrets were brought under the root in use. ``without_key``: those that are under a root nobody
    has, by its id; ``damaged``: those that do not open in their place."""

    sealed_anew: int = 0
    without_key: Counter[str] = field(default_factory=Counter)
    damaged: int = 0


async def under_other_roots(owner: Connection, current: str) -> Counter[str]:
    """How many secrets are sealed under another root than ``current``, by its id."""
    found: Counter[str] = Counter()
    for sealed in SEALED_COLUMNS:
        rows = await owner.fetch(
            f"SELECT encode(substr({sealed.column}, 2, 4), 'hex') AS key_id, count(*) AS secrets"  # noqa: S608  ours
            f" FROM {sealed.table} WHERE {sealed.column} IS NOT NULL GROUP BY 1"
        )
        found.update({row["key_id"]: row["secrets"] for row in rows if row["key_id"] != current})
    return found


async def reseal(owner: Connection, vault: Vault, current: str, say: Progress) -> Resealed:
    """Bring everything under the root ``current``, which ``vault`` seals with, as the owner, who sees every row."""
    done = Resealed()
    total = (await under_other_roots(owner, current)).total()
    for sealed in SEALED_COLUMNS:
        after = FIRST
        while rows := await _batch(owner, sealed, current, after):
            async with owner.transaction():
                for row in rows:
                    await _reseal_row(owner, vault, sealed, row, done)
            after = rows[-1]["tenant"], rows[-1]["id"]
            say(f"{sealed.place}: {done.sealed_anew} of {total} under {current}")
    return done


async def _batch(
    owner: Connection, sealed: SealedColumn, current: str, after: tuple[UUID, UUID]
) -> list[asyncpg.Record]:
    row = sealed.row or "''"
    return await owner.fetch(
        f"SELECT {sealed.tenant} AS tenant, id, {row} AS row, {sealed.column} AS sealed"  # noqa: S608  ours
        f" FROM {sealed.table} WHERE substr({sealed.column}, 2, 4) <> $1 AND ({sealed.tenant}, id) > ($2, $3)"
        f" ORDER BY {sealed.tenant}, id LIMIT $4",
        *(bytes.fromhex(current), *after, BATCH),
    )


async def _reseal_row(
    owner: Connection, vault: Vault, sealed: SealedColumn, row: asyncpg.Record, done: Resealed
) -> None:
    tenant_id, row_id, bound, before = row["tenant"], row["id"], row["row"], row["sealed"]
    try:
        text = vault.open(tenant_id, sealed.place, before, bound)
    except AppError as error:
        if error.code == "secret_key_missing":
            done.without_key[key_id_of(before)] += 1
        else:
            done.damaged += 1
        return
    # Only what is still what was read: what was entered meanwhile is newer, and under the newer root already.
    status = await owner.execute(
        f"UPDATE {sealed.table} SET {sealed.column} = $3"  # noqa: S608  names of ours
        f" WHERE {sealed.tenant} = $1 AND id = $2 AND {sealed.column} = $4",
        *(tenant_id, row_id, vault.seal(tenant_id, sealed.place, text, bound), before),
    )
    done.sealed_anew += status == "UPDATE 1"
