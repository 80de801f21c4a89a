"""The audit log as a tool reads it."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from db.errors import AppError
from db.ids import uuid7
from db.principal import Principal
from tests.conftest import House, Owner, Tenant
from tests.one_database import authenticator, database, house, owner, stranger, tenant, unasked, urls
from tools.catalog import CATALOG
from tools.dispatch import Dispatch
from tools.narrowing import Narrowing

__all__ = ["authenticator", "database", "house", "owner", "stranger", "tenant", "unasked", "urls"]
pytestmark = [
    pytest.mark.promise("IDN-30"),
    pytest.mark.usefixtures("unasked"),
    pytest.mark.asyncio(loop_scope="module"),
]
FAMILIES = Narrowing(families=CATALOG.families)


async def call(dispatch: Dispatch, who: Principal, tool: str, project_id: UUID, **given: Any) -> dict[str, Any]:
    arguments = {"project_id": str(project_id), **given}
    return (await dispatch.call(who, tool, arguments, narrowing=FAMILIES)).structured


async def test_the_log_says_what_was_done_to_whom_and_by_whom(
    dispatch: Dispatch, house: House, owner: Owner, tenant: Tenant
) -> None:
    project_id, boss = tenant.project_id, tenant.principal
    guest = await house.member(project_id, "viewer")
    address = await owner.fetchval("SELECT email FROM users WHERE id = $1", guest.user_id)
    await owner.execute("UPDATE users SET name = '' WHERE id = $1", guest.user_id)
    await call(dispatch, boss, "update_member", project_id, member_id=str(guest.user_id), role="admin")
    await call(dispatch, boss, "invite_member", project_id, email="ada@example.org")
    await call(dispatch, boss, "remove_member", project_id, member_id=str(guest.user_id))
    await call(dispatch, boss, "update_project", project_id, approvals="when_new", registry_public=True)

    entries = (await call(dispatch, boss, "list_audit_entries", project_id, limit=50))["entries"]
    told = {row["action"]: row for row in entries}
    assert (told["member:role"]["subject"], told["member:role"]["detail"]) == (address, "admin (was viewer)")
    assert (told["member:removed"]["subject"], told["member:removed"]["detail"]) == (address, "admin")
    assert told["invite_member"]["subject"] == "ada@example.org"
    assert told["project:approvals"]["detail"] == "when_new (was never)"
    assert told["project:registry"]["detail"] == "public"
    for action in ("member:role", "project:approvals", "invite_member", "update_project"):
        assert (told[action]["user_id"], told[action]["operator"]) == (str(tenant.user_id), False)
        assert told[action]["client"].startswith("ik_sk_")
    assert told["member:added"]["operator"] is True
    assert [row["at"] for row in entries] == sorted((row["at"] for row in entries), reverse=True)

    only = await call(dispatch, boss, "list_audit_entries", project_id, action="member:role")
    assert [row["action"] for row in only["entries"]] == ["member:role"]
    by = await call(dispatch, boss, "list_audit_entries", project_id, by=str(guest.user_id))
    assert by["entries"] == [], "what others did to them is not what they did"


async def test_pages_of_the_log_lose_and_repeat_nothing_while_it_grows(
    dispatch: Dispatch, owner: Owner, tenant: Tenant
) -> None:
    async def add(*targets: str) -> None:
        await owner.executemany(
            "INSERT INTO audit (id, credential_id, user_id, project_id, action, target)"
            " VALUES ($1, $2, $3, $4, 'many', $5)",
            [(uuid7(), uuid7(), tenant.user_id, tenant.project_id, target) for target in targets],
        )

    await add(*(str(number) for number in range(60)))
    found, cursor = [], None
    while True:
        given = {"action": "many", "limit": 7} | ({"cursor": cursor} if cursor else {})
        page = await call(dispatch, tenant.principal, "list_audit_entries", tenant.project_id, **given)
        found += [row["target"] for row in page["entries"]]
        await add("later")
        cursor = page.get("next_cursor")
        if cursor is None:
            break
    assert found == [str(number) for number in reversed(range(60))]


async def test_a_key_that_only_reads_reads_it_and_whoever_oversees_nothing_does_not(
    dispatch: Dispatch, house: House, tenant: Tenant, stranger: Tenant
) -> None:
    await call(dispatch, tenant.principal, "update_project", tenant.project_id, name="renamed")
    key = await house.principal(await house.key(tenant.user_id, read_only=True))
    assert (await call(dispatch, key, "list_audit_entries", tenant.project_id))["entries"]
    unscoped = await house.principal(await house.key(tenant.user_id, scopes=["projects:read"]))
    refused = {
        unscoped: "insufficient_scope",
        stranger.principal: "project_not_found",
        await house.member(tenant.project_id, "member"): "role_insufficient",
        await house.member(tenant.project_id, "viewer"): "role_insufficient",
    }
    for who, code in refused.items():
        with pytest.raises(AppError) as caught:
            await call(dispatch, who, "list_audit_entries", tenant.project_id)
        assert caught.value.code == code
