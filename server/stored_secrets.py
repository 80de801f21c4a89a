"""What ``doctor`` says of the secrets that are stored for tenants."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from server.finding import Finding
from server.keyring import Keyring

if TYPE_CHECKING:
    from server.roles import Connection


async def secret_findings(ops: Connection, keyring: Keyring | None) -> AsyncIterator[Finding]:
    """Whether every stored secret can be opened with the root secrets that there are."""
    under: Counter[str] = Counter()
    for row in await ops.fetch("SELECT key_id, secrets FROM sealed_under()"):
        under[row["key_id"]] += row["secrets"]
    known = keyring.key_ids if keyring else ()
    for key_id, secrets in sorted(under.items()):
        if key_id not in known:
            yield Finding(
                "secrets",
                "fault",
                f"{secrets} stored under the root secret '{key_id}', which is not known here: add it to "
                "INNKEEPER_OTHER_ROOT_SECRETS (under 'up' as a line of the file previous_root_secret), then "
                "innkeeper keys rotate. If it is lost, enter them anew.",
            )
        elif key_id != known[0]:
            yield Finding(
                "secrets", "note", f"{secrets} stored under the other root secret '{key_id}': innkeeper keys rotate"
            )
    if known and not under.keys() - set(known):
        yield Finding("secrets", "ok", f"{under.total()} stored, under the root secrets {', '.join(known)}")
