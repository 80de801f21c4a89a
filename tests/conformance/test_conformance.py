"""The official MCP conformance suite against the server as it is shipped, and proof that it would notice defects."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.conformance import defects_at_the_door, defects_in_results, defects_on_the_wire
from tests.conformance.breaking import spoiled
from tests.conformance.conftest import Inn, at
from tests.conformance.controls import CONTROLS, HANDSHAKE, MODERN, Guest
from tests.conformance.defects import DEFECTS, Defect
from tests.conformance.suite import Run, run, scored

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.promise("MCP-01")]

BACK_CHANNEL = {
    "tools-call-sampling",
    "tools-call-elicitation",
    "elicitation-sep1034-defaults",
    "elicitation-sep1330-enums",
}
"""What the handshake era can only do in a session: the server asks the client in the middle of a call."""

FREE_OF_FIXTURES = {
    HANDSHAKE: {
        "server-initialize",
        "ping",
        "tools-list",
        "resources-list",
        "prompts-list",
        "dns-rebinding-protection",
    },
    MODERN: {
        "tools-list",
        "resources-list",
        "prompts-list",
        "dns-rebinding-protection",
        "server-stateless",
        "caching",
        "http-header-validation",
        "sep-2164-resource-not-found",
    },
}
NOT_SCORED = {"http-header-validation", "http-custom-header-server-validation", "json-schema-2020-12"}
"""Scenarios of the modern era that are not scored, and that defects are caught by."""

TASKS = {
    "tasks-lifecycle",
    "tasks-capability-negotiation",
    "tasks-wire-fields",
    "tasks-request-state-removal",
    "tasks-mrtr-input",
    "tasks-request-headers",
    "tasks-dispatch-and-envelope",
    "tasks-required-task-error",
    "tasks-mrtr-composition",
}
"""The Tasks extension, which this server does not offer: runs are tools of their own."""

AT_ONCE = 4
SEEDED_IN = (defects_at_the_door, defects_on_the_wire, defects_in_results)
"""Importing them fills ``DEFECTS``."""


def red(found: Run, scenario: str) -> list[str]:
    """What is wrong with a scenario, warnings about a SHOULD included; nothing that came to no verdict is fine."""
    said = [str(check) for check in (*found.faults(scenario), *found.warnings(scenario))]
    return said or (["no check came to a verdict"] if scenario in found.vacuous else [])


async def test_every_scored_scenario_of_the_modern_era_is_green(inn: Inn, tmp_path: Path) -> None:
    async with at(inn.profile()) as url:
        found = await run(url, inn.token, tmp_path, "--requirements", MODERN)
    wrong = {scenario: faults for scenario in {*scored(MODERN), *NOT_SCORED} if (faults := red(found, scenario))}
    assert (wrong, found.exit_code) == ({}, 0)
    assert len(scored(MODERN)) == 37


async def test_every_scored_scenario_of_the_handshake_era_is_green(inn: Inn, tmp_path: Path) -> None:
    async with at(inn.profile(sessions=True)) as url:
        found = await run(url, inn.token, tmp_path, "--requirements", HANDSHAKE)
    wrong = {scenario: faults for scenario in scored(HANDSHAKE) if (faults := red(found, scenario))}
    assert (wrong, found.exit_code) == ({}, 0)
    assert len(scored(HANDSHAKE)) == 30


async def test_without_sessions_only_what_needs_a_back_channel_is_missing(inn: Inn, tmp_path: Path) -> None:
    async with at(inn.profile()) as url:
        found = await run(url, inn.token, tmp_path, "--requirements", HANDSHAKE)
    assert set(found.failed) == BACK_CHANNEL


@pytest.mark.long
async def test_of_the_whole_suite_only_the_tasks_extension_is_missing(inn: Inn, tmp_path: Path) -> None:
    # Through the wrapper that seeds defects, which by itself must not break anything.
    async with at(spoiled(inn.profile(sessions=True))) as url:
        found = await run(url, inn.token, tmp_path, "--suite", "all")
    assert set(found.failed) == TASKS


@pytest.mark.parametrize("revision", [HANDSHAKE, MODERN])
async def test_the_shipped_server_passes_every_scenario_that_needs_no_fixture(
    inn: Inn, tmp_path: Path, revision: str
) -> None:
    async with at(inn.production()) as url:
        found = await run(url, inn.token, tmp_path, "--requirements", revision)
    wrong = {scenario: faults for scenario in FREE_OF_FIXTURES[revision] if (faults := red(found, scenario))}
    # The checks of these two would need a fixture: they say so themselves, and the profile passes them.
    untestable = [said for said in wrong.pop("server-stateless", ()) if "Not testable" in said]
    assert wrong == {}
    assert len(untestable) == (4 if revision == MODERN else 0)


def doors(house: Any) -> list[type]:
    """What a request to ``/mcp`` passes, from the outside in."""
    found, door = [], house._mcp
    while door is not None:
        found.append(type(door))
        door = getattr(door, "app", None)
    return found


async def test_the_profile_is_the_shipped_application_with_fixtures(inn: Inn) -> None:
    shipped, profile = inn.production(), inn.profile()
    assert doors(profile) == doors(shipped)
    assert [door.__name__ for door in doors(shipped)] == ["FrontDoor", "HostGuard", "BodyLimit", "McpEndpoint"]
    assert [type(lane) for lane in profile.state.mcp_app.lanes] == [type(lane) for lane in shipped.state.mcp_app.lanes]
    assert type(profile.state.mcp_app.authenticator) is type(shipped.state.mcp_app.authenticator)


async def test_the_controls_hold_for_the_shipped_server_and_for_the_profile(inn: Inn) -> None:
    for app in (inn.production(), inn.profile(), spoiled(inn.profile())):
        async with at(app) as url, httpx2.AsyncClient(base_url=url.removesuffix("/mcp"), timeout=60) as http:
            for control in CONTROLS:
                await control(Guest(http, inn.token, inn.reader))


@pytest.mark.timeout(300)
async def test_every_seeded_defect_turns_the_run_red(inn: Inn, tmp_path: Path) -> None:
    turns = asyncio.Semaphore(AT_ONCE)

    async def goes_unnoticed(defect: Defect) -> str | None:
        async with turns, at(defect.seed(inn.profile())) as url:
            if isinstance(defect.caught_by, str):
                arguments = ("--scenario", defect.caught_by, "--spec-version", defect.revision)
                found = await run(url, inn.token, tmp_path / defect.name, *arguments)
                return None if red(found, defect.caught_by) else f"{defect.name} by {defect.caught_by}"
            async with httpx2.AsyncClient(base_url=url.removesuffix("/mcp"), timeout=60) as http:
                guest = Guest(http, inn.token, inn.reader)
                await guest.handshake("tools/list")
                try:
                    await defect.caught_by(guest)
                except AssertionError:
                    return None
                return f"{defect.name} by {defect.caught_by.__name__}"

    async with asyncio.TaskGroup() as group:
        verdicts = [group.create_task(goes_unnoticed(defect), name=defect.name) for defect in DEFECTS]
    assert [missed for verdict in verdicts if (missed := verdict.result()) is not None] == []
    assert len(DEFECTS) >= 40
