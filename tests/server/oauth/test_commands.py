"""The commands of operators and of people on terminals: clients, service accounts, and signing in."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest

from db.oauth import devices
from tests.conftest import eventually
from tests.measured import MEASURED
from tests.server.command import run
from tests.server.oauth.people import Inn, Person, Program, call, hidden

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.promise("IDN-10")]


async def test_an_operator_makes_a_service_account_that_works_until_it_is_deleted(
    inn: Inn, person: Person, tmp_path: Path
) -> None:
    environ = {"DATABASE_OWNER_URL": inn.owner_url}
    project = str(person.projects["One"])
    made = await run(
        "clients", "create", "Nightly", "--service", project, "--scope", "projects:read", "--json",
        cwd=tmp_path, environ=environ,
    )  # fmt: skip
    assert made.code == 0, made.err
    client = json.loads(made.out)
    program = Program(inn, client["client_id"], client["client_secret"])
    token = (await program.post("/oauth/token", grant_type="client_credentials")).json()["access_token"]
    listed = (await call(inn, token, "list_projects")).json()["result"]["structuredContent"]
    assert [one["name"] for one in listed["projects"]] == ["One"]

    shown = await run("clients", "list", "--json", cwd=tmp_path, environ=environ)
    assert client["client_secret"] not in shown.out
    assert project in shown.out
    ended = await run("clients", "delete", client["client_id"], cwd=tmp_path, environ=environ)
    assert ended.code == 0, ended.err

    async def refused() -> bool:
        return (await call(inn, token, "list_projects")).status_code == 401

    await eventually(refused)
    wrong = await run("clients", "create", "x", "--redirect", "http://evil.example/", cwd=tmp_path, environ=environ)
    assert wrong.code == 2
    assert "redirect_uri" in wrong.err
    nothing = await run("clients", "create", "x", cwd=tmp_path, environ=environ)
    assert (nothing.code, "--service PROJECT" in nothing.err) == (2, True)


async def test_a_person_signs_in_from_a_terminal(
    inn: Inn, person: Person, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "INTERVAL", 1)
    file = tmp_path / "tokens.json"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "server.cli", "login", inn.url, "--scope", "projects:read", "--file", str(file),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env={**os.environ, **MEASURED, "NO_PROXY": "*"},
    )  # fmt: skip
    assert process.stdout is not None
    async with asyncio.timeout(60):
        address = (await process.stdout.readline()).decode().strip()
        page = await person.browser.get(address)
        asked = await person.browser.post("/device", data={**hidden(page), "user_code": address.rpartition("=")[2]})
        assert "Connected" in (await person.press(asked, "allow")).text
        _, said = await process.communicate()
    assert process.returncode == 0, said.decode()
    tokens = json.loads(file.read_text())[inn.url]
    assert tokens["access_token"] not in said.decode()
    assert file.stat().st_mode & 0o777 == 0o600
    assert tokens["scope"] == "projects:read"
    assert (await call(inn, tokens["access_token"], "list_projects")).status_code == 200
