"""``keys``, ``doctor``, ``backup`` and ``restore``, beside a running ``up`` and without one."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import asyncpg
import httpx2
import pytest

from db import job_queue
from server.data_directory import DatabaseUrls as Urls
from server.data_directory import DataDirectory
from tests.conftest import DatabaseUrls, eventually
from tests.server.command import Running, run, up
from tests.server.test_serve import environ_of
from tests.server.test_sign_in import fields
from tests.storage.desk import Desk


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One data directory for the module; its first test starts it."""
    return tmp_path_factory.mktemp("operator") / "data"


@pytest.mark.promise("HOME-07", "HOME-32", "GND-02")
async def test_keys_and_jobs_are_seen_to_beside_a_running_server_which_works_jobs_off(
    data: Path, tmp_path: Path
) -> None:
    async with up(data, cwd=tmp_path) as running:
        made = await run("keys", "create", "reader", "--read-only", "--json", "--data", data, cwd=tmp_path)
        assert made.code == 0, made.err
        key = json.loads(made.out)
        assert "result" in await running.call("list_projects", key=key["key"])
        listed = json.loads((await run("keys", "list", "--json", "--data", data, cwd=tmp_path)).out)
        assert [found["name"] for found in listed] == ["first key", "reader"]
        assert listed[1]["read_only"] is True
        assert key["key"] not in json.dumps(listed)
        revoked = await run("keys", "revoke", key["id"], "--data", data, cwd=tmp_path)
        assert (revoked.code, revoked.out.rstrip().endswith("is revoked.")) == (0, True)

        async def is_refused() -> bool:
            return await _status(running, key["key"]) == 401

        await eventually(is_refused)
        lines = (await run("keys", "list", "--data", data, cwd=tmp_path)).out.splitlines()
        assert [line.split()[2] for line in lines] == ["live", "revoked"]
        await _a_job_is_done(DataDirectory(data).running_urls())
        assert (await run("jobs", "list", "--data", data, cwd=tmp_path)).out == ""
        healthy = await run("doctor", "--data", data, cwd=tmp_path)
        assert healthy.code == 0, healthy.out
        assert "1 worker, 0 jobs queued" in healthy.out
        assert {line.split()[0] for line in healthy.out.splitlines()} <= {"ok", "note"}


@pytest.mark.promise("IDN-21")
async def test_a_publishable_key_serves_pages_on_the_developers_computer_and_those_it_lists(
    data: Path, tmp_path: Path
) -> None:
    async with up(data, cwd=tmp_path) as running:
        make = ("keys", "create", "shop", "--publishable", "--data", data)
        refused = await run(*make, cwd=tmp_path)
        assert refused.code != 0
        assert "--project" in refused.err
        project = running.ready["project_id"]
        made = await run(*make, "--project", project, "--origin", "https://Shop.example/", "--json", cwd=tmp_path)
        assert made.code == 0, made.err
        key = json.loads(made.out)["key"]
        assert key.startswith("ik_pk_")
        listed = json.loads((await run("keys", "list", "--json", "--data", data, cwd=tmp_path)).out)
        assert (listed[-1]["kind"], listed[-1]["origins"]) == ("publishable", ["https://shop.example"])
        house = str(running.ready["url"]).removesuffix("/mcp")
        grant = {"grant_type": "urn:innkeeper:params:oauth:grant-type:anonymous"}
        async with httpx2.AsyncClient(base_url=house, headers={"x-api-key": key}, trust_env=False, timeout=60) as page:
            for origin, status in (
                ("https://shop.example", 200),
                ("http://localhost:5173", 200),
                ("https://evil.example", 403),
            ):
                answer = await page.post("/oauth/token", data=grant, headers={"origin": origin})
                assert answer.status_code == status, origin


@contextlib.asynccontextmanager
async def desk_of(running: Running) -> AsyncIterator[Desk]:
    """A client of the first project."""
    ready = running.ready
    async with httpx2.AsyncClient(timeout=60, trust_env=False) as client:
        yield Desk(client, ready["url"], ready["api_key"], UUID(ready["project_id"]))


@pytest.mark.promise("STO-02")
async def test_the_signed_addresses_of_files_stay_out_of_logs_and_metrics(data: Path, tmp_path: Path) -> None:
    token = "a metrics token of tests"
    environ = {"INNKEEPER_METRICS_TOKEN": token, "INNKEEPER_LOG_LEVEL": "debug", "INNKEEPER_LOG_FORMAT": "json"}
    async with up(data, cwd=tmp_path, environ=environ) as running, desk_of(running) as desk:
        made = await desk.sent("logged.txt", b"May.", content_type="text/plain")
        await desk.call("confirm_upload", file_id=made["id"])
        got = (await desk.call("get_file", file_id=made["id"]))["ticket"]["url"]
        assert (await desk.client.get(got)).content == b"May."
        for wrong in (got.replace("signature=", "signature=0"), f"{got}&x=y", made["ticket"]["url"]):
            refused = await desk.client.get(wrong)
            assert refused.status_code == 403
            assert "signature=" not in refused.text
        metrics = await desk.client.get(f"{desk.url}/metrics", headers={"authorization": f"Bearer {token}"})
        assert 'route="/files/{key}"' in metrics.text
        assert made["id"] not in metrics.text
        stopped = await running.end()
    for secret in (got.rpartition("=")[2], made["ticket"]["url"].rpartition("=")[2], "expires=", "signature="):
        assert secret not in stopped.err + stopped.out
    assert f"/files/files/{desk.project_id}/{made['id']}" in stopped.err


@pytest.mark.promise("IDN-01")
async def test_without_mail_up_prints_the_link_that_signs_in_and_logs_it_nowhere(data: Path, tmp_path: Path) -> None:
    environ = {"INNKEEPER_LOG_LEVEL": "debug", "INNKEEPER_LOG_FORMAT": "json"}
    async with up(data, cwd=tmp_path, environ=environ) as running:
        url = running.ready["url"]
        async with httpx2.AsyncClient(base_url=url, trust_env=False, headers={"origin": url}, timeout=60) as browser:
            typed = {**fields(await browser.get("/sign-in")), "email": "owner@localhost"}
            assert (await browser.post("/sign-in", data=typed)).status_code == 200
            stderr, link = running.process.stderr, ""
            assert stderr is not None
            async with asyncio.timeout(60):
                while not link.startswith(url):
                    link = (await stderr.readline()).decode().strip()
            opened = await browser.post("/sign-in/mail", data=fields(await browser.get(link)))
            assert (opened.status_code, opened.headers["location"]) == (303, "/projects")
            assert (await browser.get("/sessions")).status_code == 200
        logged = (await running.end()).err
    assert "/sign-in/mail" in logged
    assert link.rpartition("=")[2] not in logged


async def _a_job_is_done(urls: Urls | None) -> None:
    assert urls is not None
    ops = await asyncpg.connect(urls.ops)
    try:
        assert await ops.fetchval("SELECT ops.enqueue_for(NULL, 'clean_up', '{}', NULL, NULL, NULL)")

        async def done() -> bool:
            return not await job_queue.page(ops)

        await eventually(done)
    finally:
        await ops.close()


async def _status(running: Running, key: str) -> int:
    async with httpx2.AsyncClient(trust_env=False, timeout=60) as client:
        answer = await client.post(running.ready["mcp_url"], json={}, headers={"authorization": f"Bearer {key}"})
    return answer.status_code


@pytest.mark.promise("HOME-07")
async def test_a_backup_holds_database_secrets_keys_and_files_and_restores_into_an_empty_directory(
    data: Path, tmp_path: Path
) -> None:
    async with up(data, cwd=tmp_path) as running, desk_of(running) as desk:
        await running.call("create_project", {"name": "Kept in the backup"})
        file_id = await desk.file("kept.txt", b"kept", content_type="text/plain")
        pending = await desk.sent("pending.txt", b"soon", content_type="text/plain")
        archive = tmp_path / "inn.backup"
        written = await run("backup", archive, "--data", data, cwd=tmp_path)
        assert written.code == 0, written.err
        assert archive.stat().st_mode & 0o777 == 0o600
    restored = tmp_path / "restored"
    put_back = await run("restore", archive, "--data", restored, cwd=tmp_path)
    assert put_back.code == 0, put_back.err
    for secret in ("api_key", "root_secret"):
        assert (restored / secret).read_text() == (data / secret).read_text()
    async with up(restored, cwd=tmp_path) as running:
        answer = await running.call("list_projects", key=(data / "api_key").read_text().strip())
        names = [project["name"] for project in answer["result"]["structuredContent"]["projects"]]
        assert "Kept in the backup" in names
        async with desk_of(running) as desk:
            assert (await desk.use((await desk.call("get_file", file_id=file_id))["ticket"])).content == b"kept"
            assert (await desk.call("confirm_upload", file_id=pending["id"]))["status"] == "ready"
    again = await run("restore", archive, "--data", restored, cwd=tmp_path)
    assert again.code == 2
    assert "Traceback" not in again.err


@pytest.mark.promise("HOME-07")
async def test_a_managed_database_is_backed_up_with_its_root_secret_and_restored_into_another(
    urls: DatabaseUrls, empty_urls: DatabaseUrls, owner: asyncpg.Connection[asyncpg.Record], tmp_path: Path
) -> None:
    environ = {**environ_of(urls), "DATABASE_OWNER_URL": urls.owner}
    made = await run("keys", "create", "nobody", cwd=tmp_path, environ=environ)
    assert made.code == 2
    assert "no such user" in made.err
    await owner.execute("INSERT INTO users (id, email, name) VALUES (gen_random_uuid(), 'a@example.test', 'A')")
    made = await run("keys", "create", "first", "--user", "a@example.test", cwd=tmp_path, environ=environ)
    assert made.out.startswith("ik_sk_")
    await owner.execute("SELECT ops.enqueue_for(NULL, 'later', '{}', NULL, now() + interval '1 day', NULL)")
    written = await run("backup", "inn.backup", cwd=tmp_path, environ=environ)
    assert written.code == 0, written.err
    # As an administrator of a managed database does, who alone may create it.
    superuser = await asyncpg.connect(empty_urls.superuser)
    await superuser.execute("CREATE EXTENSION IF NOT EXISTS vector")
    await superuser.close()
    target = {**environ_of(empty_urls), "DATABASE_OWNER_URL": empty_urls.owner}
    put_back = await run("restore", "inn.backup", cwd=tmp_path, environ=target)
    assert put_back.code == 0, put_back.err
    secret = (tmp_path / "inn.backup.secrets" / "root_secret").read_text().strip()
    assert secret == environ["INNKEEPER_ROOT_SECRET"]
    listed = await run("keys", "list", cwd=tmp_path, environ=target)
    assert listed.out.rstrip().endswith("first")
    restored = await asyncpg.connect(empty_urls.owner)
    for action, log in (("backup:made", owner), ("backup:restored", restored)):
        told = await log.fetchrow("SELECT * FROM audit WHERE action = $1", action)
        assert told is not None
        assert (told["credential_id"].int, told["client"], told["target"]) == (0, "command line", "inn.backup")
        assert "@" in told["address"]
    await restored.close()
    ops = await asyncpg.connect(empty_urls.ops)
    try:
        assert [(job.kind, job.state) for job in await job_queue.page(ops)] == [("later", "scheduled")]
    finally:
        await ops.close()


@pytest.mark.promise("HOME-07", "GND-01")
async def test_doctor_says_for_each_fault_what_to_do_and_exits_1(
    urls: DatabaseUrls, owner: asyncpg.Connection[asyncpg.Record], tmp_path: Path
) -> None:
    healthy = await run("doctor", "--json", cwd=tmp_path, environ=environ_of(urls))
    assert healthy.code == 0, healthy.out
    await owner.execute("ALTER TABLE projects NO FORCE ROW LEVEL SECURITY; DROP POLICY app_update ON runs")
    environ = environ_of(urls, DATABASE_OPS_URL=urls.superuser, API_KEY_SECRET="old", INNKEEPER_ENV="development")
    environ["INNKEEPER_ALLOW_PRIVATE_URLS"] = "192.168.1.0/24"
    sick = await run("doctor", "--json", cwd=tmp_path, environ=environ)
    assert sick.code == 1
    findings = json.loads(sick.out)["findings"]
    faults = [finding["said"] for finding in findings if finding["verdict"] == "fault"]
    assert len(faults) == 3
    assert "the ops role 'postgres' is superuser" in faults[0]
    assert faults[1].startswith("Table projects does not force row-level security")
    assert faults[2].startswith("Table runs has lost the policies app_update")
    assert "API_KEY_SECRET is ignored, replaced by INNKEEPER_ROOT_SECRET" in findings[0]["said"]
    warned = [finding["said"] for finding in findings if finding["verdict"] == "warn"]
    assert len(warned) == 1
    assert "INNKEEPER_ALLOW_PRIVATE_URLS" in warned[0]
    assert "192.168.1.0/24" in warned[0]
    malformed = await run("doctor", cwd=tmp_path, environ={"INNKEEPER_LOG_LEVEL": "loud"})
    assert malformed.code == 1
    assert "fault  settings   INNKEEPER_LOG_LEVEL must be" in malformed.out


async def test_without_a_data_directory_the_commands_say_what_to_name(tmp_path: Path) -> None:
    for arguments in (("keys", "list"), ("backup", "b")):
        ended = await run(*arguments, "--data", "nowhere", cwd=tmp_path)
        assert ended.code == 2
        assert "There is no data directory" in ended.err
        assert not (tmp_path / "nowhere").exists()
