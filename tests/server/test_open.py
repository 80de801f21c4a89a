from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest

from db import sessions
from db.database import Database
from db.ids import uuid7
from tests.conftest import DatabaseUrls, Tenant
from tests.server.command import run, up

pytestmark = pytest.mark.promise("MCP-06")


async def test_open_prints_a_link_to_the_public_address_as_the_named_account(
    urls: DatabaseUrls, database: Database, tenant: Tenant, tmp_path: Path
) -> None:
    environ = {"DATABASE_OWNER_URL": urls.owner, "INNKEEPER_PUBLIC_URL": "https://inn.example.com"}
    approval = str(uuid7())

    opened = await run("open", approval, "--user", str(tenant.user_id), cwd=tmp_path, environ=environ)

    assert opened.code == 0, opened.err
    link = urlsplit(opened.out.strip())
    assert f"{link.scheme}://{link.netloc}{link.path}" == f"https://inn.example.com/approvals/{approval}"
    [token] = parse_qs(link.query)["link"]
    session = await sessions.open_session(database, token)
    assert session is not None
    person = await sessions.find_session(database, session)
    assert person is not None
    assert (person.user_id, person.kind) == (tenant.user_id, "session")
    assert await sessions.open_session(database, token) is None


async def test_open_says_what_is_missing(urls: DatabaseUrls, tenant: Tenant, tmp_path: Path) -> None:
    environ = {"DATABASE_OWNER_URL": urls.owner, "XDG_DATA_HOME": str(tmp_path)}

    nowhere = await run("open", cwd=tmp_path, environ=environ)
    wrong = await run("open", "--url", "inn", cwd=tmp_path, environ=environ)

    assert (nowhere.code, wrong.code) == (2, 2)
    assert "--url" in nowhere.err
    assert "http(s)://HOST[:PORT]" in wrong.err
    assert "Traceback" not in nowhere.err + wrong.err


async def test_open_finds_the_running_up_and_its_link_opens_the_projects(tmp_path: Path) -> None:
    data = tmp_path / "data"
    async with up(data, cwd=tmp_path) as running:
        opened = await run("open", "--json", "--data", data, cwd=tmp_path)
        assert opened.code == 0, opened.err
        url = json.loads(opened.out)["url"]
        assert url.startswith(f"{running.ready['url']}/projects?link=ik_ol_")
        async with httpx2.AsyncClient(trust_env=False, follow_redirects=True, timeout=60) as browser:
            form = {"link": parse_qs(urlsplit(url).query)["link"][0], "to": "/projects"}
            page = await browser.post(f"{running.ready['url']}/sign-in/link", data=form)
            assert page.status_code == 200
            assert "First project" in page.text
