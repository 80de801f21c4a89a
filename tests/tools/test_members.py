"""Members and invitations through the tools, and by raw SQL as who would get around them."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from db import invitations
from db.credentials import Authenticator
from db.database import Database
from db.errors import AppError
from db.ids import uuid7
from db.principal import Principal
from tests.conftest import DatabaseUrls, House, Owner, Tenant, eventually, opened
from tests.server.approving import session_of
from tools.catalog import CATALOG
from tools.dispatch import Dispatch
from tools.narrowing import Narrowing

pytestmark = [pytest.mark.promise("IDN-30"), pytest.mark.usefixtures("unasked")]
EVERYTHING = Narrowing(families=CATALOG.families)
ROLES = ("owner", "admin", "member", "viewer")


async def call(dispatch: Dispatch, who: Principal, tool: str, project_id: UUID, **given: object) -> dict[str, Any]:
    arguments = {"project_id": str(project_id), **{name: str(value) for name, value in given.items()}}
    return (await dispatch.call(who, tool, arguments, narrowing=EVERYTHING)).structured


async def refusal(dispatch: Dispatch, who: Principal, tool: str, project_id: UUID, **given: object) -> tuple[str, str]:
    with pytest.raises(AppError) as caught:
        await call(dispatch, who, tool, project_id, **given)
    return caught.value.code, str(caught.value.details.get("ask", {}).get("role", ""))


async def role_of(owner: Owner, project_id: UUID, user_id: UUID) -> str | None:
    found: str | None = await owner.fetchval(
        "SELECT role FROM project_members WHERE project_id = $1 AND user_id = $2", project_id, user_id
    )
    return found


async def test_members_are_listed_with_their_roles_to_every_member_and_to_nobody_else(
    dispatch: Dispatch, house: House, tenant: Tenant, stranger: Tenant
) -> None:
    others = {role: await house.member(tenant.project_id, role) for role in ROLES[1:]}
    for who in (tenant.principal, *others.values()):
        listed = await call(dispatch, who, "list_members", tenant.project_id)
        found = {row["id"]: row["role"] for row in listed["members"]}
        assert found == {
            str(tenant.user_id): "owner",
            **{str(one.user_id): role for role, one in others.items()},
        }
    assert await refusal(dispatch, stranger.principal, "list_members", tenant.project_id) == ("project_not_found", "")
    pages, cursor = [], None
    while True:
        given = {"project_id": str(tenant.project_id), "limit": 3} | ({"cursor": cursor} if cursor else {})
        page = (await dispatch.call(tenant.principal, "list_members", given, narrowing=EVERYTHING)).structured
        pages.append([row["id"] for row in page["members"]])
        cursor = page.get("next_cursor")
        if cursor is None:
            break
    assert [len(page) for page in pages] == [3, 1]
    assert len({one for page in pages for one in page}) == 4


@pytest.mark.parametrize("mine", ROLES)
async def test_who_may_change_and_remove_whom(
    dispatch: Dispatch, database: Database, house: House, owner: Owner, tenant: Tenant, mine: str
) -> None:
    """Every role against every other, through the tools and by raw SQL: what the tool refuses, the database refuses."""
    me = await house.member(tenant.project_id, mine)
    for theirs in ROLES:
        for to in ROLES:
            may = mine == "owner" or (mine == "admin" and "owner" not in (theirs, to))
            asked = "owner" if mine == "admin" else "admin"
            them = await house.member(tenant.project_id, theirs)
            given = {"member_id": them.user_id, "role": to}
            if may:
                assert await call(dispatch, me, "update_member", tenant.project_id, **given)
            else:
                assert await refusal(dispatch, me, "update_member", tenant.project_id, **given) == (
                    *("role_insufficient", asked),
                )
                try:
                    async with database.transaction(me, tenant.project_id) as connection:
                        raw = "UPDATE project_members SET role = $1 WHERE user_id = $2"
                        assert await connection.execute(raw, to, them.user_id) == "UPDATE 0"
                except asyncpg.InsufficientPrivilegeError:
                    pass
            assert await role_of(owner, tenant.project_id, them.user_id) == (to if may else theirs)
        them = await house.member(tenant.project_id, theirs)
        if mine == "owner" or (mine == "admin" and theirs != "owner"):
            await call(dispatch, me, "remove_member", tenant.project_id, member_id=them.user_id)
            assert await role_of(owner, tenant.project_id, them.user_id) is None
        else:
            asked = "owner" if mine == "admin" else "admin"
            refused = await refusal(dispatch, me, "remove_member", tenant.project_id, member_id=them.user_id)
            assert refused == ("role_insufficient", asked)
            async with database.transaction(me, tenant.project_id) as connection:
                raw = "DELETE FROM project_members WHERE user_id = $1"
                assert await connection.execute(raw, them.user_id) == "DELETE 0"


async def test_nobody_makes_themselves_or_others_members_by_sql(
    database: Database, house: House, tenant: Tenant, stranger: Tenant
) -> None:
    for who in (tenant.principal, await house.member(tenant.project_id, "admin"), stranger.principal):
        for statement in (
            "INSERT INTO project_members (user_id, project_id, role) VALUES ($2, $1, 'owner')",
            "UPDATE project_members SET user_id = $2 WHERE project_id = $1",
            "UPDATE project_members SET project_id = $1 WHERE user_id = $2",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                async with database.transaction(who, tenant.project_id) as connection:
                    await connection.execute(statement, tenant.project_id, stranger.user_id)


async def test_the_last_owner_stays_whatever_is_tried(
    dispatch: Dispatch, database: Database, house: House, owner: Owner, tenant: Tenant
) -> None:
    me, project_id = tenant.principal, tenant.project_id
    admin = await house.member(project_id, "admin")
    assert (await refusal(dispatch, me, "leave_project", project_id))[0] == "last_owner"
    for role in ROLES[1:]:
        refused = await refusal(dispatch, me, "update_member", project_id, member_id=me.user_id, role=role)
        assert refused[0] == "last_owner"
    for statement in ("DELETE FROM project_members WHERE role = 'owner'", "UPDATE project_members SET role = 'viewer'"):
        with pytest.raises(asyncpg.RestrictViolationError):
            await owner.execute(statement)
        with pytest.raises(asyncpg.RestrictViolationError):
            async with database.transaction(me, project_id) as mine:
                await mine.execute(statement)
    assert await role_of(owner, project_id, me.user_id) == "owner"
    await call(dispatch, me, "transfer_project", project_id, member_id=admin.user_id)
    assert await role_of(owner, project_id, admin.user_id) == "owner"
    assert await role_of(owner, project_id, me.user_id) == "admin"
    await call(dispatch, me, "leave_project", project_id)
    assert (await refusal(dispatch, admin, "leave_project", project_id))[0] == "last_owner"


async def test_of_owners_who_leave_at_the_same_moment_one_stays(
    dispatch: Dispatch, house: House, owner: Owner, tenant: Tenant
) -> None:
    """Both have looked before either commits: only the database sees that they are the last."""
    for _ in range(5):
        project_id = uuid7()
        await owner.execute(
            "INSERT INTO projects (id, name, created_by) VALUES ($1, 'contended', $2)", project_id, tenant.user_id
        )
        owners = [tenant.principal, *[await house.member(project_id, "owner") for _ in range(3)]]
        answers = await asyncio.gather(
            *(call(dispatch, one, "leave_project", project_id) for one in owners), return_exceptions=True
        )
        refused = [answer.code for answer in answers if isinstance(answer, AppError)]
        assert len(refused) == 1, answers
        assert refused in (["last_owner"], ["busy"])
        left = await owner.fetchval("SELECT count(*) FROM project_members WHERE project_id = $1", project_id)
        assert left == 1


async def test_only_an_owner_transfers_and_only_to_another_member(
    dispatch: Dispatch, house: House, owner: Owner, tenant: Tenant, stranger: Tenant
) -> None:
    project_id = tenant.project_id
    member = await house.member(project_id, "member")
    for role in ROLES[1:]:
        who = await house.member(project_id, role)
        refused = await refusal(dispatch, who, "transfer_project", project_id, member_id=member.user_id)
        assert refused == ("role_insufficient", "owner")
    for nobody in (stranger.user_id, uuid7()):
        refused = await refusal(dispatch, tenant.principal, "transfer_project", project_id, member_id=nobody)
        assert refused == ("member_not_found", "")
    to_self = await refusal(dispatch, tenant.principal, "transfer_project", project_id, member_id=tenant.user_id)
    assert to_self[0] == "member_is_you"
    told = await call(dispatch, tenant.principal, "transfer_project", project_id, member_id=member.user_id)
    assert told == {"id": str(project_id), "owner": str(member.user_id), "your_role": "admin"}


async def test_a_removed_members_keys_end_at_once_on_every_process(
    dispatch: Dispatch, house: House, owner: Owner, tenant: Tenant, urls: DatabaseUrls
) -> None:
    member = await house.member(tenant.project_id, "member")
    bound = await house.key(member.user_id, project_id=tenant.project_id)
    wide = await house.key(member.user_id)
    async with opened(urls) as other:
        there = Authenticator(other)
        await there.start()
        for token in (bound, wide):
            assert await there.authenticate(token) is not None
        await call(dispatch, tenant.principal, "remove_member", tenant.project_id, member_id=member.user_id)

        async def ended() -> bool:
            return await there.authenticate(bound) is None

        await eventually(ended)
        still = await there.authenticate(wide)
        assert still is not None, "a key of the whole account is theirs still"
    assert (await refusal(dispatch, still, "get_project", tenant.project_id))[0] == "project_not_found"
    ended_at = await owner.fetchval("SELECT revoked_at FROM credentials WHERE id = $1", member.credential_id)
    assert ended_at is None


async def test_a_role_that_was_taken_counts_for_the_very_next_call(
    dispatch: Dispatch, house: House, tenant: Tenant
) -> None:
    member = await house.member(tenant.project_id, "admin")
    given = {"project_id": str(tenant.project_id), "name": "renamed"}
    await dispatch.call(member, "update_project", given)
    await call(dispatch, tenant.principal, "update_member", tenant.project_id, member_id=member.user_id, role="viewer")
    with pytest.raises(AppError) as caught:
        await dispatch.call(member, "update_project", given)
    assert caught.value.code == "role_insufficient"


async def test_an_invitation_is_accepted_once_by_its_address_alone(
    dispatch: Dispatch, database: Database, house: House, owner: Owner, tenant: Tenant
) -> None:
    guest, thief = await house.tenant("guest"), await house.tenant("thief")
    address = await owner.fetchval("SELECT email FROM users WHERE id = $1", guest.user_id)
    sent = await call(
        dispatch, tenant.principal, "invite_member", tenant.project_id, email=address.upper(), role="viewer"
    )
    assert (sent["mailed"], str(sent["url"]).endswith(f"/projects/{tenant.project_id}/members")) == (False, True)
    assert "ik_in_" not in str(sent), "no link passes through a model"
    invitation_id = UUID(str(sent["id"]))

    async def answered(person: Principal) -> str:
        try:
            async with database.transaction(person) as connection:
                return await invitations.answer(connection, tenant.project_id, invitation_id, accept=True)
        except AppError as error:
            return error.code

    for nobody in (await session_of(database, owner, thief.user_id), guest.principal, tenant.principal):
        assert await answered(nobody) == "invitation_not_found"
    person = await session_of(database, owner, guest.user_id)
    answers = await asyncio.gather(*(answered(person) for _ in range(4)))
    assert sorted(answers) == ["invitation_not_found"] * 3 + ["joined"]
    assert await role_of(owner, tenant.project_id, guest.user_id) == "viewer"
    again = await refusal(dispatch, tenant.principal, "invite_member", tenant.project_id, email=address)
    assert again[0] == "already_member"


async def test_an_invitation_that_was_revoked_or_has_expired_or_lost_its_inviter_opens_nothing(
    dispatch: Dispatch, database: Database, house: House, owner: Owner, tenant: Tenant
) -> None:
    guest = await house.tenant("guest")
    address = await owner.fetchval("SELECT email FROM users WHERE id = $1", guest.user_id)
    person = await session_of(database, owner, guest.user_id)
    admin = await house.member(tenant.project_id, "admin")

    async def invited() -> UUID:
        sent = await call(dispatch, admin, "invite_member", tenant.project_id, email=address)
        return UUID(str(sent["id"]))

    async def opens(invitation_id: UUID) -> bool:
        async with database.transaction(person) as connection:
            waiting = {one.id for one in await invitations.mine(connection)}
        assert bool(waiting) == await invitations.is_invited(database, address)
        return invitation_id in waiting

    first = await invited()
    assert await opens(first)
    second = await invited()
    assert not await opens(first)
    assert await opens(second)
    await call(dispatch, tenant.principal, "revoke_invitation", tenant.project_id, invitation_id=second)
    assert not await opens(second)
    third = await invited()
    await owner.execute("UPDATE invitations SET expires_at = now() WHERE id = $1", third)
    assert not await opens(third)
    listed = await call(dispatch, tenant.principal, "list_invitations", tenant.project_id)
    assert [(row["id"], row["expired"]) for row in listed["invitations"]] == [(str(third), True)]
    await call(dispatch, tenant.principal, "resend_invitation", tenant.project_id, invitation_id=third)
    assert await opens(third)
    await call(dispatch, tenant.principal, "update_member", tenant.project_id, member_id=admin.user_id, role="member")
    assert not await opens(third), "whoever may not invite any more has invited nobody"


async def test_what_invites_is_for_owners_and_admins_and_never_for_a_viewer_by_sql(
    dispatch: Dispatch, database: Database, house: House, owner: Owner, tenant: Tenant
) -> None:
    sent = await call(dispatch, tenant.principal, "invite_member", tenant.project_id, email="ada@example.org")
    for role in ("member", "viewer"):
        who = await house.member(tenant.project_id, role)
        for tool, given in (
            ("invite_member", {"email": "b@example.org"}),
            ("list_invitations", {}),
            ("revoke_invitation", {"invitation_id": sent["id"]}),
            ("resend_invitation", {"invitation_id": sent["id"]}),
        ):
            assert await refusal(dispatch, who, tool, tenant.project_id, **given) == ("role_insufficient", "admin")
        async with database.transaction(who, tenant.project_id) as connection:
            assert await connection.fetchval("SELECT count(*) FROM invitations") == 0
            assert await connection.execute("UPDATE invitations SET revoked_at = now()") == "UPDATE 0"
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            async with database.transaction(who, tenant.project_id) as connection:
                await connection.execute(
                    "INSERT INTO invitations (project_id, id, address, role, invited_by, token_hash)"
                    " VALUES ($1, $2, 'x@example.org', 'admin', $3, 'x')",
                    *(tenant.project_id, uuid7(), who.user_id),
                )
    assert await owner.fetchval("SELECT count(*) FROM invitations") == 1


async def test_only_so_many_invitations_go_out_in_a_day(dispatch: Dispatch, owner: Owner, tenant: Tenant) -> None:
    for _ in range(invitations.TO_ADDRESS):
        await call(dispatch, tenant.principal, "invite_member", tenant.project_id, email="ada@example.org")
    refused = await refusal(dispatch, tenant.principal, "invite_member", tenant.project_id, email="ada@example.org")
    assert refused[0] == "too_many_invitations"
    await owner.execute("UPDATE invitations SET sent = $1", invitations.OF_PROJECT)
    refused = await refusal(dispatch, tenant.principal, "invite_member", tenant.project_id, email="b@example.org")
    assert refused[0] == "too_many_invitations"
    await owner.execute("UPDATE invitations SET sent_at = now() - interval '25 hours'")
    await call(dispatch, tenant.principal, "invite_member", tenant.project_id, email="ada@example.org")


async def test_a_foreign_member_a_former_and_a_random_one_are_answered_alike(
    dispatch: Dispatch, house: House, owner: Owner, tenant: Tenant, stranger: Tenant
) -> None:
    former = await house.member(tenant.project_id, "viewer")
    await call(dispatch, tenant.principal, "remove_member", tenant.project_id, member_id=former.user_id)
    for tool, given in (("update_member", {"role": "viewer"}), ("remove_member", {}), ("transfer_project", {})):
        for nobody in (stranger.user_id, former.user_id, uuid7()):
            refused = await refusal(dispatch, tenant.principal, tool, tenant.project_id, member_id=nobody, **given)
            assert refused == ("member_not_found", "")
    assert await role_of(owner, stranger.project_id, stranger.user_id) == "owner"
