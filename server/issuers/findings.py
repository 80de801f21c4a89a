"""What ``doctor`` says of the issuers with which people sign in."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING

from db.errors import AppError
from server.finding import Finding

if TYPE_CHECKING:
    from server.issuers.issuer import Issuer
    from server.roles import Connection
    from server.settings.providers import OAuthSettings


async def issuer_findings(settings: OAuthSettings, issuers: Mapping[str, Issuer]) -> AsyncIterator[Finding]:
    """Whether each has all its settings, and answers."""
    for name, half in (("GITHUB", settings.github), ("GOOGLE", settings.google)):
        if (half.client_id is None) != (half.client_secret is None):
            lacking = f"{name}_CLIENT_{'SECRET' if half.client_id else 'ID'}"
            yield Finding("sign-in", "fault", f"{lacking} is not set, so that nobody signs in there: set both or none.")
    for issuer in issuers.values():
        try:
            await issuer.probe()
            keeps = await issuer.keeps()
        except AppError as error:
            said = f"'{issuer.id}' ({issuer.issuer}): {error.message} Check its address, and the way from here to it."
            yield Finding("sign-in", "fault", said)
            continue
        if keeps:
            yield Finding("sign-in", "ok", f"'{issuer.id}' ({issuer.issuer}) answers")
        else:
            said = "offers no offline_access: accounts to which it gives no refresh token rest a day after a sign-in"
            yield Finding("sign-in", "warn", f"'{issuer.id}' ({issuer.issuer}) {said}")


async def identity_findings(ops: Connection, issuers: Mapping[str, Issuer]) -> AsyncIterator[Finding]:
    """Whether the accounts there are asked about in time."""
    for row in await ops.fetch("SELECT provider, issuer, identities, overdue FROM identity_figures()"):
        issuer = issuers.get(row["provider"])
        if issuer is None or issuer.issuer != row["issuer"]:
            said = f"{row['identities']} accounts of {row['issuer']} ('{row['provider']}')"
            yield Finding("sign-in", "warn", f"{said}, which is not in the settings: nobody asks about them any more")
        elif row["overdue"]:
            said = f"{row['overdue']} accounts of {row['issuer']} were not confirmed for a day"
            yield Finding("sign-in", "warn", f"{said}: see the log of the worker, and whether one runs")
