from __future__ import annotations

import asyncio
import os
import re
import signal
from pathlib import Path

import asyncpg
import httpx2
import pytest

from server.schema import SchemaState, revisions, schema_state
from tests.conftest import DatabaseUrls, House
from tests.server.command import ended, noted, run

ROOT_SECRET = "n3kS0mVt8cQ1xZ5rB7yL2wE9uJ4hG6fD-apoi"


def environ_of(urls: DatabaseUrls, **more: str) -> dict[str, str]:
    return {
        "DATABASE_URL": urls.app,
        "DATABASE_OPS_URL": urls.ops,
        "INNKEEPER_ROOT_SECRET": ROOT_SECRET,
        "INNKEEPER_PUBLIC_URL": "https://inn.example.com",
        **more,
    }


@pytest.mark.promise("HOME-07")
async def test_serve_answers_a_key_and_ends_on_a_signal(urls: DatabaseUrls, house: House, tmp_path: Path) -> None:
    tenant = await house.tenant()
    serve = ("serve", "--port", "0")
    environ = environ_of(urls)
    async with noted(*serve, cwd=tmp_path, until="ready:", environ=environ, measured=True) as running:
        said = running.ready["said"]
        assert "https://inn.example.com/mcp" in said
        found = re.search(r"listening on (http://127\.0\.0\.1:\d+)", said)
        assert found
        running.ready["mcp_url"] = f"{found[1]}/mcp"
        answer = await running.call("list_projects", key=tenant.token)
        projects = answer["result"]["structuredContent"]["projects"]
        assert [project["id"] for project in projects] == [str(tenant.project_id)]
        async with httpx2.AsyncClient(trust_env=False, timeout=60) as client:
            assert (await client.get(f"{found[1]}/readyz")).status_code == 200
            foreign = await client.get(f"{found[1]}/readyz", headers={"host": "evil.example.com"})
            assert foreign.status_code == 421
            ours = await client.get(f"{found[1]}/readyz", headers={"host": "inn.example.com"})
            assert ours.status_code == 200
        # Nobody reads its log meanwhile: that takes some 300 lines, and the reader of this test some 600 more.
        reader, writer = await asyncio.open_connection("127.0.0.1", int(found[1].rpartition(":")[2]))
        many = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n" * 1499
        writer.write(many + b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        async with asyncio.timeout(60):
            assert (await reader.read(-1)).count(b"HTTP/1.1 200") == 1500
        writer.close()
        stopped = await running.end(signal.SIGINT)
    assert stopped.code == 0
    assert "Traceback" not in stopped.err
    assert stopped.err.count('"path":"/healthz"') == 1500


@pytest.mark.promise("HOME-06", "HOME-07")
async def test_serve_and_worker_refuse_roles_that_row_level_security_would_not_hold(
    urls: DatabaseUrls, tmp_path: Path
) -> None:
    for command in (("serve", "--port", "0"), ("worker",)):
        faults = {
            urls.superuser: "'postgres', which is a superuser",
            urls.owner: "'innkeeper_owner', which owns tables",
        }
        for url, said in faults.items():
            wrong = await run(*command, cwd=tmp_path, environ=environ_of(urls, DATABASE_URL=url, DATABASE_OPS_URL=url))
            assert wrong.code == 2
            assert f"DATABASE_URL connects as {said}" in wrong.err
            assert f"DATABASE_OPS_URL connects as {said}" in wrong.err
            assert "Traceback" not in wrong.err


@pytest.mark.promise("HOME-07")
async def test_serve_refuses_a_schema_that_is_behind_and_works_on_a_newer_one(
    urls: DatabaseUrls, empty_urls: DatabaseUrls, owner: asyncpg.Connection[asyncpg.Record], tmp_path: Path
) -> None:
    missing = await run("serve", "--port", "0", cwd=tmp_path, environ=environ_of(empty_urls))
    assert missing.code == 2
    assert "The schema is missing: run 'innkeeper migrate'" in missing.err
    await owner.execute("UPDATE alembic_version SET version_num = '9999'")
    serve = ("serve", "--host", "0.0.0.0", "--port", "0")
    async with noted(*serve, cwd=tmp_path, until="ready:", environ=environ_of(urls)) as running:
        assert "the schema (9999) is newer than this version" in running.ready["said"]
        assert "listening on http://0.0.0.0:" in running.ready["said"]


@pytest.mark.promise("HOME-07")
async def test_worker_checks_its_database_and_waits_for_a_signal(urls: DatabaseUrls, tmp_path: Path) -> None:
    environ = environ_of(urls)
    async with noted("worker", cwd=tmp_path, until="ready:", environ=environ, measured=True) as running:
        assert "up to 10 jobs at a time" in running.ready["said"]
        running.process.send_signal(signal.SIGTERM)
        stopped = await ended(running.process)
    assert stopped.code == 0
    assert "stopped" in stopped.err


@pytest.mark.promise("HOME-07")
async def test_migrate_brings_an_empty_database_to_this_version_and_may_be_repeated(
    empty_urls: DatabaseUrls, tmp_path: Path
) -> None:
    environ = {"DATABASE_OWNER_URL": empty_urls.owner}
    for _ in range(2):
        migrated = await run("migrate", cwd=tmp_path, environ=environ)
        assert (migrated.code, migrated.err) == (0, "")
        assert migrated.out == (
            f"The database is at revision {revisions()[-1]}; roles: innkeeper_owner (owner), innkeeper_app, "
            "innkeeper_ops.\n"
        )
    async with noted("worker", cwd=tmp_path, until="ready:", environ=environ_of(empty_urls)):
        pass


@pytest.mark.promise("HOME-07")
async def test_migrate_makes_roles_that_are_missing_with_the_passwords_of_their_urls(
    empty_urls: DatabaseUrls, tmp_path: Path
) -> None:
    app, ops = f"app_{os.getpid()}", f"ops_{os.getpid()}"
    base = empty_urls.superuser.partition("@")[2]
    environ = {
        "DATABASE_OWNER_URL": empty_urls.superuser,
        "DATABASE_URL": f"postgresql://{app}:first-password@{base}",
        "DATABASE_OPS_URL": f"postgresql://{ops}:second%2Fpassword@{base}",
    }
    superuser = await asyncpg.connect(empty_urls.superuser)
    try:
        migrated = await run("migrate", cwd=tmp_path, environ=environ)
        assert migrated.code == 0, migrated.err
        assert "password" not in migrated.out + migrated.err
        connection = await asyncpg.connect(environ["DATABASE_OPS_URL"])
        await connection.close()
        shape = {**environ, "INNKEEPER_ROOT_SECRET": ROOT_SECRET, "INNKEEPER_PUBLIC_URL": "https://inn.example.com"}
        async with noted("serve", "--port", "0", cwd=tmp_path, until="ready:", environ=shape):
            pass
    finally:
        for role in (app, ops):
            await superuser.execute(f'DROP OWNED BY "{role}"; DROP ROLE "{role}"')
        await superuser.close()


@pytest.mark.promise("HOME-06")
async def test_a_role_that_may_not_make_roles_is_told_what_to_ask_for(empty_urls: DatabaseUrls, tmp_path: Path) -> None:
    ended_ = await run(
        "migrate", "--app-role", "brand_new", cwd=tmp_path, environ={"DATABASE_OWNER_URL": empty_urls.owner}
    )
    assert ended_.code == 2
    assert 'CREATE ROLE "brand_new" LOGIN NOINHERIT' in ended_.err
    assert "Traceback" not in ended_.err


def test_the_revisions_read_off_the_files_are_those_of_alembic() -> None:
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parents[2] / "migrations"))
    walked = ScriptDirectory.from_config(config).walk_revisions()
    assert [script.revision for script in walked] == revisions()[::-1]
    assert schema_state(None) is SchemaState.absent
    assert schema_state(revisions()[0]) is SchemaState.behind
    assert schema_state(revisions()[-1]) is SchemaState.current
    assert schema_state("9999") is SchemaState.newer
