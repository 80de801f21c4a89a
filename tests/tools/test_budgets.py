from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from db.errors import AppError
from db.ids import uuid7
from tests.conftest import House, Owner, Tenant
from tests.one_database import authenticator, database, house, owner, stranger, tenant, unasked, urls
from tools.dispatch import Dispatch
from tools.narrowing import Narrowing

__all__ = ["authenticator", "database", "house", "owner", "stranger", "tenant", "unasked", "urls"]
pytestmark = [pytest.mark.promise("RUN-09"), pytest.mark.asyncio(loop_scope="module")]
BUDGETS = Narrowing(families=frozenset({"budgets"}))


async def do(dispatch: Dispatch, who: Any, tool: str, /, **given: Any) -> dict[str, Any]:
    return (await dispatch.call(who, tool, given, narrowing=BUDGETS)).structured


async def test_budgets_are_set_changed_lifted_and_seen(dispatch: Dispatch, tenant: Tenant) -> None:
    project = str(tenant.project_id)
    prices = {"my-model": {"input": 0.5, "output": 1.5}}
    made = await do(
        dispatch, tenant.principal, "set_budgets", project_id=project, monthly_messages=500, model_prices=prices
    )
    assert (made["monthly_messages"], made["monthly_usd"], made["model_prices"]) == (500, None, prices)
    changed = await do(
        dispatch,
        tenant.principal,
        "set_budgets",
        project_id=project,
        monthly_usd=20.5,
        end_user_monthly_usd=0.1,
        end_user_monthly_messages=0,
        clear=["monthly_messages", "model_prices"],
    )
    assert changed == await do(dispatch, tenant.principal, "get_usage", project_id=project)
    assert changed == {
        "monthly_messages": None,
        "monthly_usd": 20.5,
        "end_user_monthly_messages": 0,
        "end_user_monthly_usd": 0.1,
        "model_prices": {},
        "months": [],
    }


async def test_usage_is_shown_by_month_for_the_project_and_for_one_end_user(
    dispatch: Dispatch, tenant: Tenant, owner: Owner
) -> None:
    person = uuid7()
    await owner.execute(
        "INSERT INTO end_users (project_id, id, external_id) VALUES ($1, $2, 'ada')", tenant.project_id, person
    )
    for who, messages in ((person, 1), (None, 2)):
        await owner.execute("SELECT add_usage($1, $2, $3, 0.25, 4, 1, 100, 10)", tenant.project_id, who, messages)
    await owner.execute(
        "INSERT INTO usage_months (project_id, month, subject, messages) VALUES ($1, '2020-02-01', $1, 9)",
        tenant.project_id,
    )
    whole = await do(dispatch, tenant.principal, "get_usage", project_id=str(tenant.project_id))
    assert [month["messages"] for month in whole["months"]] == [3, 9]
    assert whole["months"][0] == {
        "month": whole["months"][0]["month"],
        "messages": 3,
        "usd": 0.5,
        "requests": 8,
        "unpriced_requests": 2,
        "input_tokens": 200,
        "output_tokens": 20,
    }
    theirs = await do(
        dispatch, tenant.principal, "get_usage", project_id=str(tenant.project_id), end_user_id=str(person)
    )
    assert [month["messages"] for month in theirs["months"]] == [1]
    with pytest.raises(AppError) as unknown:
        await do(dispatch, tenant.principal, "get_usage", project_id=str(tenant.project_id), end_user_id=str(uuid7()))
    assert unknown.value.code == "end_user_not_found"
    as_ada = await do(
        dispatch, replace(tenant.principal, end_user_id=person), "get_usage", project_id=str(tenant.project_id)
    )
    assert as_ada["months"] == []


async def test_only_who_administers_the_project_sets_budgets_and_no_run_does(
    dispatch: Dispatch, tenant: Tenant, house: House
) -> None:
    member = await house.member(tenant.project_id, "member")
    with pytest.raises(AppError) as refused:
        await do(dispatch, member, "set_budgets", project_id=str(tenant.project_id), monthly_messages=1)
    assert refused.value.code == "role_insufficient"
    grant = tenant.principal.for_run(uuid7(), depth=1, epoch=1, scopes=None, tools=None)
    with pytest.raises(AppError) as refused:
        await do(dispatch, grant, "set_budgets", project_id=str(tenant.project_id), monthly_messages=10**6)
    assert refused.value.status in (403, 404)


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"monthly_usd": -1},
        {"monthly_messages": 1, "clear": ["monthly_messages"]},
        {"model_prices": {"m": {"input": 1}}},
        {"clear": ["everything"]},
    ],
)
async def test_what_makes_no_sense_is_refused(dispatch: Dispatch, tenant: Tenant, given: dict[str, Any]) -> None:
    with pytest.raises(AppError) as refused:
        await do(dispatch, tenant.principal, "set_budgets", project_id=str(tenant.project_id), **given)
    assert (refused.value.code, refused.value.status) == ("invalid_arguments", 400)
