from __future__ import annotations

import pytest

from tests.clients.javascript import JavaScript
from tests.conftest import Owner, Tenant
from tests.serving import Served


@pytest.mark.promise("MCP-06")
async def test_a_person_at_a_typescript_client_is_asked_and_has_the_last_word(
    served: Served, tenant: Tenant, owner: Owner, javascript: JavaScript
) -> None:
    answers = ["accept", "decline", "cancel"]

    said = await javascript.script("approving", {"url": served.mcp, "token": tenant.token, "answers": answers})

    assert said["protocol"] == "2026-07-28"
    assert said["results"] == ["done", "approval_denied", "approval_required"]
    assert [message.splitlines()[-1] for message in said["asked"]] == [f'Project: "To be {one}"' for one in answers]
    kept = await owner.fetch("SELECT name FROM projects WHERE name LIKE 'To be %' ORDER BY name")
    assert [row["name"] for row in kept] == ["To be cancel", "To be decline"]
