"""The rules of asking, through the one dispatch: policies, callers, arguments, expiry, single use."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from uuid import UUID

import asyncpg
import pytest
import pytest_asyncio

from db.approvals import MOST_WAITING, Policy
from db.database import Database
from db.errors import AppError
from db.ids import uuid7
from db.principal import Principal
from db.scopes import Scope
from tests.conftest import DatabaseUrls, House, Owner, Tenant, eventually, living_run
from tests.server.approving import Sent, send, sent, session_of
from tools.approval import Answer, ApprovalRequiredError, Asked
from tools.catalog import CATALOG, Catalog
from tools.contract import Caller, ProjectId, tool
from tools.decisions import Decisions
from tools.dispatch import Dispatch
from tools.ports import Services

pytestmark = pytest.mark.promise("MCP-06")


@tool(Scope.projects_read, read_only=True, destructive=False, idempotent=True, open_world=True, target="url")
async def look_outside(call: Caller, project_id: ProjectId, url: str) -> Sent:
    """Read something outside of the house."""
    return Sent()


@pytest.fixture
def catalog() -> Catalog:
    return Catalog((*CATALOG.tools, send, look_outside))


@pytest.fixture
def dispatch(services: Services, catalog: Catalog) -> Dispatch:
    return Dispatch(services, catalog)


@pytest_asyncio.fixture
async def person(database: Database, owner: Owner, tenant: Tenant) -> Principal:
    """The tenant's person, in front of the pages."""
    return await session_of(database, owner, tenant.user_id)


async def policy(owner: Owner, tenant: Tenant, chosen: Policy) -> None:
    await owner.execute("UPDATE projects SET approval_policy = $1 WHERE id = $2", chosen, tenant.project_id)


async def asked(dispatch: Dispatch, caller: Principal, name: str, arguments: Mapping[str, Any], **more: Any) -> Asked:
    with pytest.raises(ApprovalRequiredError) as caught:
        await dispatch.call(caller, name, arguments, **more)
    return caught.value.asked


async def refused(dispatch: Dispatch, caller: Principal, name: str, arguments: Mapping[str, Any], **more: Any) -> str:
    with pytest.raises(AppError) as caught:
        await dispatch.call(caller, name, arguments, **more)
    return caught.value.code


def letter(tenant: Tenant, to: str = "ada", **more: Any) -> dict[str, Any]:
    return {"project_id": str(tenant.project_id), "to": to, **more}


async def test_a_call_asks_does_nothing_and_happens_once_after_a_person_allowed_it(
    dispatch: Dispatch, services: Services, catalog: Catalog, tenant: Tenant, person: Principal, owner: Owner
) -> None:
    question = await asked(dispatch, tenant.principal, "send", letter(tenant))
    again = await asked(dispatch, tenant.principal, "send", letter(tenant))
    assert again.id == question.id
    assert question.url == f"/approvals/{question.id}"
    assert await sent(owner, tenant) == ""

    await Decisions(services, catalog).decide(person, question.id, allow=True)

    assert (await dispatch.call(tenant.principal, "send", letter(tenant))).structured == {"sent": True}
    assert (await asked(dispatch, tenant.principal, "send", letter(tenant))).id != question.id
    assert await sent(owner, tenant) == "ada;"
    said = await owner.fetch("SELECT action FROM audit WHERE action ~ 'send' ORDER BY id")
    assert [row["action"] for row in said] == ["allow:send", "send"]


async def test_an_approval_is_of_one_caller_and_one_set_of_arguments(
    dispatch: Dispatch,
    services: Services,
    catalog: Catalog,
    house: House,
    tenant: Tenant,
    person: Principal,
    owner: Owner,
) -> None:
    question = await asked(dispatch, tenant.principal, "send", letter(tenant))
    await Decisions(services, catalog).decide(person, question.id, allow=True)
    other_key = await house.principal(await house.key(tenant.user_id))
    run = tenant.principal.for_run(await living_run(owner, tenant), depth=0, epoch=1)
    end_user = uuid7()
    await owner.execute(
        "INSERT INTO end_users (project_id, id, external_id) VALUES ($1, $2, 'u')", tenant.project_id, end_user
    )

    for caller in (other_key, run, replace(tenant.principal, end_user_id=end_user)):
        assert (await asked(dispatch, caller, "send", letter(tenant))).id != question.id
    await asked(dispatch, tenant.principal, "send", letter(tenant, to="bob"))
    await asked(dispatch, tenant.principal, "send", letter(tenant, text="more"))
    assert await sent(owner, tenant) == ""
    await dispatch.call(tenant.principal, "send", letter(tenant))


async def test_two_calls_at_once_use_one_approval_once(
    dispatch: Dispatch, services: Services, catalog: Catalog, tenant: Tenant, person: Principal, owner: Owner
) -> None:
    question = await asked(dispatch, tenant.principal, "send", letter(tenant))
    await Decisions(services, catalog).decide(person, question.id, allow=True)

    outcomes = await asyncio.gather(
        *(dispatch.call(tenant.principal, "send", letter(tenant)) for _ in range(6)), return_exceptions=True
    )

    assert sum(not isinstance(outcome, Exception) for outcome in outcomes) == 1
    assert await sent(owner, tenant) == "ada;"


async def test_a_denial_holds_and_a_person_may_change_their_mind(
    dispatch: Dispatch, services: Services, catalog: Catalog, tenant: Tenant, person: Principal, owner: Owner
) -> None:
    decisions = Decisions(services, catalog)
    question = await asked(dispatch, tenant.principal, "send", letter(tenant))

    await decisions.decide(person, question.id, allow=False)
    assert await refused(dispatch, tenant.principal, "send", letter(tenant)) == "approval_denied"
    await decisions.decide(person, question.id, allow=True)
    await decisions.decide(person, question.id, allow=False)
    assert await refused(dispatch, tenant.principal, "send", letter(tenant)) == "approval_denied"
    await decisions.decide(person, question.id, allow=True)
    await dispatch.call(tenant.principal, "send", letter(tenant))

    with pytest.raises(AppError) as caught:
        await decisions.decide(person, question.id, allow=False)
    assert caught.value.code == "approval_closed"


@pytest.mark.parametrize("decision", [None, True, False], ids=["undecided", "allowed", "denied"])
async def test_whatever_was_decided_counts_for_nothing_once_it_expired(
    dispatch: Dispatch,
    services: Services,
    catalog: Catalog,
    tenant: Tenant,
    person: Principal,
    owner: Owner,
    decision: bool | None,
) -> None:
    decisions = Decisions(services, catalog)
    question = await asked(dispatch, tenant.principal, "send", letter(tenant))
    if decision is not None:
        await decisions.decide(person, question.id, allow=decision)
    await owner.execute("UPDATE approvals SET expires_at = now() - interval '1 second'")

    with pytest.raises(AppError) as caught:
        await decisions.decide(person, question.id, allow=True)
    assert caught.value.code == "approval_closed"
    assert (await asked(dispatch, tenant.principal, "send", letter(tenant))).id != question.id
    shown, _ = await decisions.look_up(person, question.id)
    assert shown.state == "expired"
    assert await sent(owner, tenant) == ""


async def test_when_new_asks_for_a_target_once_in_thirty_days(
    dispatch: Dispatch, services: Services, catalog: Catalog, tenant: Tenant, person: Principal, owner: Owner
) -> None:
    await policy(owner, tenant, "when_new")
    question = await asked(dispatch, tenant.principal, "send", letter(tenant))
    await Decisions(services, catalog).decide(person, question.id, allow=True)
    await dispatch.call(tenant.principal, "send", letter(tenant))

    await dispatch.call(tenant.principal, "send", letter(tenant, text=" again"))
    await asked(dispatch, tenant.principal, "send", letter(tenant, to="bob"))
    run = tenant.principal.for_run(await living_run(owner, tenant), depth=0, epoch=1)
    await asked(dispatch, run, "send", letter(tenant))
    await owner.execute("UPDATE approvals SET used_at = used_at - interval '31 days'")
    await asked(dispatch, tenant.principal, "send", letter(tenant, text="a month later"))
    assert await sent(owner, tenant) == "ada;ada again;"


async def test_never_asks_nobody(dispatch: Dispatch, tenant: Tenant, owner: Owner) -> None:
    await policy(owner, tenant, "never")

    await dispatch.call(tenant.principal, "send", letter(tenant))

    assert await sent(owner, tenant) == "ada;"


async def test_a_tool_that_only_reads_asks_when_it_reaches_out_also_for_a_read_only_key(
    dispatch: Dispatch, services: Services, catalog: Catalog, house: House, tenant: Tenant, person: Principal
) -> None:
    reader = await house.principal(await house.key(tenant.user_id, read_only=True))
    arguments = {"project_id": str(tenant.project_id), "url": "https://example.test"}

    question = await asked(dispatch, reader, "look_outside", arguments)
    await Decisions(services, catalog).decide(person, question.id, allow=True)

    await dispatch.call(reader, "look_outside", arguments)
    await asked(dispatch, reader, "look_outside", arguments)


@pytest.mark.parametrize("loosened", ["when_new", "never"])
async def test_who_may_be_asked_less_is_itself_asked(
    dispatch: Dispatch, services: Services, catalog: Catalog, tenant: Tenant, person: Principal, loosened: str
) -> None:
    change = {"project_id": str(tenant.project_id), "approvals": loosened}

    question = await asked(dispatch, tenant.principal, "update_project", change)
    await dispatch.call(tenant.principal, "update_project", change | {"approvals": "always"})
    await dispatch.call(tenant.principal, "update_project", {"project_id": str(tenant.project_id), "name": "free"})
    await Decisions(services, catalog).decide(person, question.id, allow=True)

    changed = await dispatch.call(tenant.principal, "update_project", change)
    assert changed.structured["approvals"] == loosened
    if loosened == "when_new":
        await asked(dispatch, tenant.principal, "update_project", change | {"approvals": "never"})


async def test_nobody_is_asked_about_what_could_not_be_done_anyway(
    dispatch: Dispatch, house: House, tenant: Tenant, stranger: Tenant, owner: Owner
) -> None:
    viewer = await house.member(tenant.project_id, "viewer")
    member = await house.member(tenant.project_id, "member")
    target = {"project_id": str(tenant.project_id)}

    assert await refused(dispatch, viewer, "delete_project", target) == "role_insufficient"
    assert await refused(dispatch, member, "delete_project", target) == "role_insufficient"
    assert await refused(dispatch, viewer, "send", letter(tenant)) == "role_insufficient"
    assert await refused(dispatch, stranger.principal, "send", letter(tenant)) == "project_not_found"
    assert await owner.fetchval("SELECT count(*) FROM approvals") == 0


async def test_a_saved_answer_needs_no_new_approval_and_a_question_takes_no_key(
    dispatch: Dispatch, services: Services, catalog: Catalog, tenant: Tenant, person: Principal, owner: Owner
) -> None:
    question = await asked(dispatch, tenant.principal, "send", letter(tenant), idempotency_key="key")
    await Decisions(services, catalog).decide(person, question.id, allow=True)

    for replayed in (False, True, True):
        outcome = await dispatch.call(tenant.principal, "send", letter(tenant), idempotency_key="key")
        assert outcome.replayed == replayed
    assert await sent(owner, tenant) == "ada;"


async def test_a_runs_own_client_answers_nothing(dispatch: Dispatch, tenant: Tenant, owner: Owner) -> None:
    run = tenant.principal.for_run(await living_run(owner, tenant), depth=0, epoch=1)
    question = await asked(dispatch, run, "send", letter(tenant))

    await asked(dispatch, run, "send", letter(tenant), answer=Answer(question.id, True))

    assert await sent(owner, tenant) == ""


async def test_an_answer_counts_for_the_call_it_was_given_to(
    dispatch: Dispatch, house: House, tenant: Tenant, owner: Owner
) -> None:
    question = await asked(dispatch, tenant.principal, "send", letter(tenant))
    other = await house.principal(await house.key(tenant.user_id))
    yes = Answer(question.id, True)

    await asked(dispatch, tenant.principal, "send", letter(tenant, to="bob"), answer=yes)
    await asked(dispatch, other, "send", letter(tenant), answer=yes)
    assert await sent(owner, tenant) == ""
    await dispatch.call(tenant.principal, "send", letter(tenant), answer=yes)
    assert await sent(owner, tenant) == "ada;"
    await asked(dispatch, tenant.principal, "send", letter(tenant), answer=yes)


async def test_only_who_could_do_it_may_allow_it(
    dispatch: Dispatch,
    services: Services,
    catalog: Catalog,
    database: Database,
    house: House,
    tenant: Tenant,
    stranger: Tenant,
    owner: Owner,
) -> None:
    decisions = Decisions(services, catalog)
    question = await asked(dispatch, tenant.principal, "delete_project", {"project_id": str(tenant.project_id)})

    async def try_as(user_id: UUID, *, scopes: frozenset[str] | None = None) -> str:
        person = await session_of(database, owner, user_id)
        if scopes is not None:
            person = person.narrowed(scopes=scopes)
        with pytest.raises(AppError) as caught:
            await decisions.decide(person, question.id, allow=True)
        return caught.value.code

    assert await try_as(stranger.user_id) == "approval_not_found"
    for role in ("admin", "member", "viewer"):
        someone = await house.member(tenant.project_id, role)
        assert await try_as(someone.user_id) == "role_insufficient"
    assert await try_as(tenant.user_id, scopes=frozenset({"projects:read"})) == "insufficient_scope"
    with pytest.raises(AppError) as caught:
        await decisions.decide(tenant.principal, question.id, allow=True)
    assert caught.value.code == "approval_not_found"

    another = await house.member(tenant.project_id, "owner")
    await decisions.decide(await session_of(database, owner, another.user_id), question.id, allow=True)
    assert (await dispatch.call(tenant.principal, "delete_project", {"project_id": str(tenant.project_id)})).structured
    state = await owner.fetchrow("SELECT state, decided_by FROM approvals WHERE id = $1", question.id)
    assert state is not None
    assert tuple(state) == ("used", another.user_id)


async def test_the_database_itself_lets_nobody_rewrite_what_was_asked(
    dispatch: Dispatch, database: Database, tenant: Tenant, stranger: Tenant, person: Principal
) -> None:
    await asked(dispatch, tenant.principal, "send", letter(tenant))

    for column in ("arguments = '{}'", "arguments_digest = ''", "tool = 'x'", "credential_id = credential_id"):
        for who in (tenant.principal, person):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                async with database.transaction(who) as connection:
                    await connection.execute(f"UPDATE approvals SET {column}")
    async with database.transaction(stranger.principal, tenant.project_id) as connection:
        assert await connection.fetchval("SELECT count(*) FROM approvals") == 0
        assert await connection.execute("UPDATE approvals SET state = 'approved'") == "UPDATE 0"


async def test_an_approval_lost_nothing_when_the_effect_it_was_for_was_rolled_back(
    dispatch: Dispatch,
    services: Services,
    catalog: Catalog,
    urls: DatabaseUrls,
    tenant: Tenant,
    person: Principal,
    owner: Owner,
) -> None:
    question = await asked(dispatch, tenant.principal, "send", letter(tenant))
    await Decisions(services, catalog).decide(person, question.id, allow=True)
    holder = await asyncpg.connect(urls.superuser)
    try:
        async with holder.transaction():
            await holder.execute("LOCK TABLE audit IN EXCLUSIVE MODE")
            call = asyncio.create_task(dispatch.call(tenant.principal, "send", letter(tenant)))

            async def cut() -> bool:
                return bool(
                    await holder.fetchval(
                        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = 'innkeeper_app'"
                        " AND datname = current_database() AND wait_event_type = 'Lock'"
                    )
                )

            await eventually(cut)
            with pytest.raises(AppError) as caught:
                await call
    finally:
        await holder.close()
    assert caught.value.code == "unavailable"
    assert await sent(owner, tenant) == ""

    await dispatch.call(tenant.principal, "send", letter(tenant))

    assert await sent(owner, tenant) == "ada;"


async def test_a_caller_cannot_bury_a_person_in_questions(dispatch: Dispatch, tenant: Tenant) -> None:
    for number in range(MOST_WAITING):
        await asked(dispatch, tenant.principal, "send", letter(tenant, to=str(number)))

    assert await refused(dispatch, tenant.principal, "send", letter(tenant, to="one more")) == "too_many_questions"
    await asked(dispatch, tenant.principal, "send", letter(tenant, to="0"))
