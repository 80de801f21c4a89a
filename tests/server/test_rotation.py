"""``innkeeper keys rotate``: every sealed secret comes under the root in use, whatever happens meanwhile."""

from __future__ import annotations

import asyncio
import json
from argparse import Namespace
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import httpx2
import pytest

from db import provider_keys
from db.database import Database
from db.ids import uuid7
from server.commands.rotate import rotate
from server.data_directory import DataDirectory
from server.keyring import Keyring, RootFiles, new_root, replace, root_secret_file
from server.refusal import Refusal
from server.roots import process_name
from server.rotation import BATCH, SEALED_COLUMNS, reseal, under_other_roots
from server.settings import Settings, load
from server.stored_secrets import secret_findings
from server.vault import Vault
from tests.agents.inn import body, user
from tests.conftest import DatabaseUrls, Owner, Tenant, eventually
from tests.fakes.openai_server import scripted_model
from tests.server.command import run, up

pytestmark = pytest.mark.promise("GND-03")

OLD, NEW, LOST = (f"the {which} root 0123456789abcdefghij" for which in ("older", "newer", "lost"))
OLD_RING, NEW_RING = Keyring(OLD.encode()), Keyring(NEW.encode(), OLD.encode())


NO_SECRETS = {"idempotency.answer", "oauth_refresh_tokens.salt", "run_events.event", "run_steps.value"}
"""Columns of bytes that hold what their readers may see, or that is worth nothing alone. Whatever is neither that nor a
hash is sealed."""
SHORT_LIVED = {"house_mails.secret"}
"""Sealed too, and gone before a root is: what a mail opens, until it has left or expired."""


def silent(_line: str) -> None:
    """Progress that nobody reads."""


async def keep(owner: Owner, project_id: UUID, vault: Vault, text: str, provider: str = "openai") -> None:
    await provider_keys.put(
        owner,  # type: ignore[arg-type]  # a connection of the owner instead of the pool's
        project_id,
        provider,
        key_id=uuid7(),
        base_url="https://llm.example.test/v1" if provider == "compatible" else None,
        sealed=vault.seal(project_id, provider_keys.SEALED, text, provider),
        hint=text[-4:],
        created_by=uuid7(),
        checked=True,
    )


async def kept(owner: Owner, vault: Vault) -> dict[UUID, str]:
    rows = await owner.fetch("SELECT project_id, provider, sealed FROM provider_keys")
    return {
        row["project_id"]: vault.open(row["project_id"], provider_keys.SEALED, row["sealed"], row["provider"])
        for row in rows
    }


async def many(owner: Owner, tenant: Tenant, number: int, ring: Keyring = OLD_RING) -> dict[UUID, str]:
    """That many projects with a key each."""
    texts = {uuid7(): f"sk-{index}" for index in range(number)}
    await owner.executemany(
        "INSERT INTO projects (id, name, created_by) VALUES ($1, 'x', $2)", [(one, tenant.user_id) for one in texts]
    )
    for project_id, text in texts.items():
        await keep(owner, project_id, Vault(ring), text)
    return texts


async def test_everything_comes_under_the_root_in_use_and_a_second_time_nothing_is_left(
    owner: Owner, tenant: Tenant
) -> None:
    texts = await many(owner, tenant, BATCH + 20)
    told: list[str] = []

    done = await reseal(owner, Vault(NEW_RING), NEW_RING.key_id, told.append)

    assert (done.sealed_anew, done.damaged, done.without_key.total()) == (len(texts), 0, 0)
    assert await kept(owner, Vault(Keyring(NEW.encode()))) == texts  # the old root is not needed any more
    assert told[0].endswith(f"{BATCH} of {len(texts)} under {NEW_RING.key_id}")
    assert (await reseal(owner, Vault(NEW_RING), NEW_RING.key_id, silent)).sealed_anew == 0


async def test_a_rotation_that_was_broken_off_goes_on_where_it_stopped(owner: Owner, tenant: Tenant) -> None:
    texts = await many(owner, tenant, BATCH + 5)

    def stop(_line: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await reseal(owner, Vault(NEW_RING), NEW_RING.key_id, stop)
    assert (await under_other_roots(owner, NEW_RING.key_id)).total() == 5
    assert await kept(owner, Vault(NEW_RING)) == texts  # half way, both roots open everything
    assert (await reseal(owner, Vault(NEW_RING), NEW_RING.key_id, silent)).sealed_anew == 5


class Interrupted:
    """The owner's connection, on which others write at the worst moment: after a row was read, before it is written."""

    def __init__(self, owner: Owner, meanwhile: Callable[[], Awaitable[None]]) -> None:
        self._owner = owner
        self._meanwhile: Callable[[], Awaitable[None]] | None = meanwhile

    def __getattr__(self, name: str) -> Any:
        return getattr(self._owner, name)

    async def execute(self, *statement: Any) -> str:
        meanwhile, self._meanwhile = self._meanwhile, None
        if meanwhile is not None:
            await meanwhile()
        return await self._owner.execute(*statement)


async def test_what_is_written_meanwhile_is_kept(owner: Owner, urls: DatabaseUrls, tenant: Tenant) -> None:
    texts = await many(owner, tenant, 3)
    changed, deleted, left = texts
    second = await asyncpg.connect(urls.owner)

    async def write() -> None:
        await keep(second, changed, Vault(NEW_RING), "sk-entered meanwhile")
        await second.execute("DELETE FROM provider_keys WHERE project_id = $1", deleted)

    interrupted: Any = Interrupted(owner, write)
    done = await reseal(interrupted, Vault(NEW_RING), NEW_RING.key_id, silent)
    await second.close()

    assert done.sealed_anew == 1
    assert await kept(owner, Vault(NEW_RING)) == {changed: "sk-entered meanwhile", left: texts[left]}


def arguments(**more: Any) -> Namespace:
    return Namespace(**{"data": None, "json": True, "forget": False, "force": False, **more})


def settings_of(urls: DatabaseUrls, root: str = NEW, others: str = OLD) -> Settings:
    named = {"DATABASE_OWNER_URL": urls.owner, "INNKEEPER_ROOT_SECRET": root, "INNKEEPER_OTHER_ROOT_SECRETS": others}
    return load(named, environment="development")


async def test_named_roots_are_rotated_once_every_process_uses_the_new_one(
    owner: Owner, urls: DatabaseUrls, tenant: Tenant, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = await many(owner, tenant, 2)
    behind = await Database.open(urls.app, name=process_name(OLD_RING))
    knows = await Database.open(urls.app, name=process_name(Keyring(OLD.encode(), NEW.encode())))
    ready = await Database.open(urls.app, name=process_name(NEW_RING))
    for process in (behind, knows, ready):
        await process.listener.wait()

    with pytest.raises(Refusal) as refused:
        await rotate(settings_of(urls), arguments())
    for process in (behind, knows):
        await process.close()
    await eventually(lambda: only_the_new_one_serves(owner))
    await rotate(settings_of(urls), arguments())
    await ready.close()

    assert f"2 of 3 running processes do not use the root secret '{NEW_RING.key_id}' yet" in str(refused.value)
    assert json.loads(capsys.readouterr().out)["sealed_anew"] == 2
    assert await kept(owner, Vault(Keyring(NEW.encode()))) == texts
    with pytest.raises(Refusal, match="INNKEEPER_OTHER_ROOT_SECRETS"):
        await rotate(settings_of(urls), arguments(forget=True))


async def only_the_new_one_serves(owner: Owner) -> bool:
    query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE $1"
    return bool(await owner.fetchval(query, "innkeeper roots=%") == 1)


async def test_a_lost_or_wrong_root_is_named_with_what_to_do_and_the_rest_is_rotated(
    owner: Owner, urls: DatabaseUrls, tenant: Tenant
) -> None:
    lost_ring = Keyring(LOST.encode())
    texts = await many(owner, tenant, 2)
    lost = await many(owner, tenant, 3, lost_ring)
    moved = uuid7()
    await owner.execute("INSERT INTO projects (id, name, created_by) VALUES ($1, 'x', $2)", moved, tenant.user_id)
    await owner.execute(
        "INSERT INTO provider_keys (project_id, id, provider, sealed, hint, created_by)"
        " SELECT $1, id, provider, sealed, hint, created_by FROM provider_keys WHERE project_id = $2",
        *(moved, next(iter(texts))),
    )

    with pytest.raises(Refusal) as refused:
        await rotate(settings_of(urls), arguments())
    said = "\n".join(refused.value.sentences)
    assert f"2 secrets are under '{NEW_RING.key_id}' now" in said
    assert f"3 stored secrets are under the root secret '{lost_ring.key_id}'" in said
    assert "1 stored secrets do not open where they are kept" in said
    assert "INNKEEPER_OTHER_ROOT_SECRETS" in said
    await owner.execute("DELETE FROM provider_keys WHERE project_id = $1", moved)
    await rotate(settings_of(urls, others=f"{OLD},{LOST}"), arguments())
    assert await kept(owner, Vault(Keyring(NEW.encode()))) == texts | lost


async def test_doctor_says_which_root_stored_secrets_need(owner: Owner, urls: DatabaseUrls, tenant: Tenant) -> None:
    await many(owner, tenant, 2)
    ops = await asyncpg.connect(urls.ops)

    async def said(*roots: str) -> list[tuple[str, str]]:
        ring = Keyring(*(root.encode() for root in roots)) if roots else None
        return [(one.verdict, one.said) async for one in secret_findings(ops, ring)]

    assert await said(OLD) == [("ok", f"2 stored, under the root secrets {OLD_RING.key_id}")]
    assert (await said(NEW, OLD))[0] == (
        "note",
        f"2 stored under the other root secret '{OLD_RING.key_id}': innkeeper keys rotate",
    )
    for wrong in (await said(NEW), await said()):
        ((verdict, sentence),) = wrong
        assert verdict == "fault"
        assert f"2 stored under the root secret '{OLD_RING.key_id}', which is not known here" in sentence
        assert "INNKEEPER_OTHER_ROOT_SECRETS" in sentence
    await ops.close()


async def test_every_column_of_bytes_is_known_to_be_sealed_or_no_secret(owner: Owner) -> None:
    rows = await owner.fetch(
        "SELECT c.relname || '.' || a.attname AS place FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid"
        " JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE a.atttypid = 'bytea'::regtype AND c.relkind = 'r' AND a.attnum > 0 AND n.nspname = 'public'"
    )
    sealed = {column.place for column in SEALED_COLUMNS}
    places = {row["place"] for row in rows if not row["place"].endswith(("hash", "digest", "sha256"))}
    assert places - NO_SECRETS == sealed | SHORT_LIVED
    counted = await owner.fetchval("SELECT prosrc FROM pg_proc WHERE proname = 'sealed_under'")
    assert all(f"'{place}'" in counted for place in sealed | SHORT_LIVED)


def test_roots_in_files_are_followed_and_never_lost(tmp_path: Path) -> None:
    current, previous = tmp_path / "root_secret", tmp_path / "previous_root_secret"
    first = root_secret_file(current)
    ring = Keyring(read=RootFiles(current, previous))
    signed = dict(ring.signing_keys("files"))

    replace(previous, current.read_text())
    assert ring.key_ids == Keyring(first.encode()).key_ids  # one root under two names is one
    replace(current, new_root() + "\n")

    assert len(ring.key_ids) == 2
    assert ring.derive("files") not in signed.values()
    assert signed.items() <= dict(ring.signing_keys("files")).items()
    assert current.stat().st_mode & 0o777 == previous.stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["previous_root_secret", "root_secret"]
    current.unlink()
    assert len(ring.key_ids) == 2


async def test_a_running_up_serves_with_projects_keys_while_its_root_is_replaced(tmp_path: Path) -> None:
    data = DataDirectory(tmp_path / "data")
    environ = {"INNKEEPER_ALLOW_PRIVATE_URLS": "127.0.0.0/8"}
    async with (
        up(data.root, cwd=tmp_path, environ=environ) as running,
        scripted_model() as model,
        httpx2.AsyncClient(trust_env=False, timeout=60) as client,
    ):

        async def answered() -> str:
            asked = body(user("Hello"))
            headers = {"authorization": f"Bearer {running.ready['api_key']}"}
            return (await client.post(running.ready["agui_url"], json=asked, headers=headers)).text

        urls = data.running_urls()
        assert urls is not None
        owner = await asyncpg.connect(urls.owner)
        project_id = UUID(running.ready["project_id"])
        await owner.execute("UPDATE projects SET model = 'openai-chat:m', base_url = $1", model.base_url)
        await keep(owner, project_id, Vault(Keyring(read=data.roots)), "sk-mine", "compatible")
        await owner.execute("UPDATE provider_keys SET base_url = $1", model.base_url)
        before = data.root_secret.read_text()

        command = run("keys", "rotate", "--json", "--data", data.root, cwd=tmp_path)
        rotated, meanwhile = await asyncio.gather(command, asyncio.gather(*(answered() for _ in range(4))))
        streams = [*meanwhile, await answered()]

        assert rotated.code == 0, rotated.err
        assert data.previous_root_secret.read_text() == before
        new = Keyring(data.root_secret.read_text().strip().encode())
        assert json.loads(rotated.out)["key_id"] == new.key_id
        assert await kept(owner, Vault(new)) == {project_id: "sk-mine"}
        told = await owner.fetchrow("SELECT * FROM audit WHERE action = $1", "root_secret:rotated")
        assert told is not None
        assert (told["credential_id"].int, told["client"], told["target"]) == (0, "command line", new.key_id)
        assert "@" in told["address"]
        await owner.close()
    assert all("RUN_FINISHED" in stream for stream in streams)
    assert [request.authorization for request in model.requests] == ["Bearer sk-mine"] * 5
