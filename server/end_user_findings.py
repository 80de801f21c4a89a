"""What ``doctor`` says of the end users of projects."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from server.finding import Finding

if TYPE_CHECKING:
    from server.roles import Connection


async def end_user_findings(ops: Connection) -> AsyncIterator[Finding]:
    """A warning where somebody's word counts that nobody checks."""
    believing = await ops.fetchval("SELECT projects_believing_anybody()")
    if believing:
        yield Finding(
            "end users",
            "note",
            f"{believing} projects take anybody's word for who an end user is: see their pages 'End users'",
        )
