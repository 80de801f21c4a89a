"""Syncing a registry from a source on a real socket, by a real worker, through the guarded client."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import psutil  # type: ignore[import-untyped]  # ships no types
import pytest
import pytest_asyncio

from db.errors import AppError
from server.integrations.addresses import Addresses
from server.integrations.guarded_http import Outgoing
from server.integrations.local_files import LocalFiles
from server.integrations.local_tickets import TicketSigner
from server.jobs.registry_sync import registry_sync_job
from server.jobs.worker import WorkerRules, working
from tests.conftest import Owner, Tenant, eventually
from tests.fakes.forge import Forge, forge
from tests.fakes.outside import reaching_loopback
from tests.storage.places import KEYS
from tests.tools.shelf import PROPS, Shelf, item
from tools.dispatch import Dispatch
from tools.narrowing import Narrowing
from tools.ports import Services, StorageRules

if TYPE_CHECKING:
    from server.services import Services as HouseServices

pytestmark = pytest.mark.promise("REG-04")
AT_ONCE = registry_sync_job(retries=(0.0, 0.0))
FAMILY = Narrowing(families=frozenset({"sync"}))


class Syncing(Shelf):
    """A project's registry with a source, and a worker that syncs it."""

    def __init__(self, dispatch: Dispatch, tenant: Tenant, forge: Forge) -> None:
        super().__init__(dispatch, tenant)
        self.forge = forge

    async def sync_call(self, tool: str, /, **arguments: Any) -> dict[str, Any]:
        given = {"project_id": str(self.tenant.project_id), **arguments}
        outcome = await self.dispatch.call(self.tenant.principal, tool, given, narrowing=FAMILY)
        return outcome.structured

    async def source(self, path: str = "r/registry.json") -> str:
        made = await self.sync_call("create_registry_source", url=f"{self.forge.url}/{path}")
        return str(made["id"])

    async def ended(self, sync_id: str) -> dict[str, Any]:
        found: dict[str, Any] = {}

        async def over() -> bool:
            nonlocal found
            found = await self.sync_call("get_registry_sync", sync_id=sync_id)
            return found["state"] not in ("queued", "running")

        await eventually(over, 60)
        return found

    async def sync(self, source_id: str) -> dict[str, Any]:
        return await self.ended((await self.sync_call("sync_registry_source", source_id=source_id))["id"])

    def serve(self, *items: dict[str, Any], folder: str = "r") -> None:
        """A built registry: the catalogue without contents, the items beside it."""
        bare = [
            {**one, "files": [{k: v for k, v in f.items() if k != "content"} for f in one["files"]]} for one in items
        ]
        self.forge.serve(f"{folder}/registry.json", {"name": "acme", "homepage": "x", "items": bare})
        for one in items:
            self.forge.serve(f"{folder}/{one['name']}.json", {"$schema": "x", **one})


@asynccontextmanager
async def syncing_in(services: Services, tenant: Tenant, upstream: Forge) -> AsyncIterator[Syncing]:
    dispatch = Dispatch(services)
    house = cast("HouseServices", SimpleNamespace(database=services.database, dispatch=dispatch))
    async with working(house, WorkerRules(4, 5.0), (AT_ONCE,)):
        yield Syncing(dispatch, tenant, upstream)


@pytest_asyncio.fixture
async def outside() -> AsyncIterator[Outgoing]:
    """The guarded client of a house that may go to this machine."""
    async with aclosing(reaching_loopback()) as outside:
        yield outside


@pytest_asyncio.fixture
async def upstream() -> AsyncIterator[Forge]:
    async with forge() as upstream:
        yield upstream


@pytest_asyncio.fixture
async def syncing(
    services: Services, tenant: Tenant, upstream: Forge, outside: Outgoing, unasked: None
) -> AsyncIterator[Syncing]:
    async with syncing_in(replace(services, outside=outside), tenant, upstream) as syncing:
        yield syncing


async def test_a_built_registry_is_published_whole_and_again_only_what_changed(syncing: Syncing) -> None:
    syncing.serve(item("button"), item("card", registryDependencies=["button", "dialog"], title="Card"))
    source_id = await syncing.source()

    first = await syncing.sync(source_id)
    assert (first["state"], first["published"], first["unchanged"]) == ("succeeded", 2, 0)
    assert (first["done"], first["total"], first["faults"]) == (2, 2, [])
    assert first["changes"] == [{"name": "button", "version": "1.0.0"}, {"name": "card", "version": "1.0.0"}]
    read = await syncing.call("get_component", name="card")
    assert read["registry_dependencies"] == ["button", "@shadcn/dialog"]
    assert (await syncing.call("get_component", name="card", file="ui/card.tsx"))["text"] == "export const Card = 1"

    again = await syncing.sync(source_id)
    assert (again["state"], again["published"], again["unchanged"]) == ("succeeded", 0, 2)
    syncing.serve(item("button", "export const Button = 2"), item("card", registryDependencies=["button", "dialog"]))
    third = await syncing.sync(source_id)
    assert third["changes"] == [{"name": "button", "version": "1.0.1"}, {"name": "card", "version": "1.0.1"}]
    listed = await syncing.sync_call("list_registry_syncs", source_id=source_id)
    assert [one["published"] for one in listed["syncs"]] == [2, 0, 2]
    sources = (await syncing.sync_call("list_registry_sources"))["sources"]
    assert [(one["id"], one["kind"], one["last_sync"]) for one in sources] == [(source_id, "manifest", "succeeded")]


async def test_a_repository_is_read_at_its_raw_address_with_the_catalogues_it_includes(syncing: Syncing) -> None:
    forge = syncing.forge
    forge.serve("o/r/main/registry.json", {"name": "a", "homepage": "x", "include": ["ui/registry.json"], "items": []})
    file = {"path": "parts/card.tsx", "type": "registry:ui"}
    inner = {
        "name": "card",
        "type": "registry:ui",
        "files": [file],
        "meta": {"innkeeper": {"version": "3.0.0", "props": PROPS}},
    }
    forge.serve("o/r/main/ui/registry.json", {"items": [inner]})
    forge.serve("o/r/main/ui/parts/card.tsx", "export const Card = 'ü'".encode())

    report = await syncing.sync(await syncing.source("o/r/main"))
    assert report["changes"] == [{"name": "card", "version": "3.0.0"}], report
    read = await syncing.call("get_component", name="card")
    assert read["props"] == PROPS
    assert [one["path"] for one in read["files"]] == ["ui/parts/card.tsx"]
    text = await syncing.call("get_component", name="card", file="ui/parts/card.tsx")
    assert text["text"] == "export const Card = 'ü'"


@pytest.mark.parametrize("how", ["invalid", "gone", "cut", "needs", "taken"])
async def test_a_sync_that_fails_for_one_item_changes_nothing_and_says_why(
    syncing: Syncing, owner: Owner, how: str
) -> None:
    await syncing.publish("old", version="1.0.0")
    source_id = await syncing.source()
    fine = [item(f"fine-{number}") for number in range(20)]
    bad = {
        "invalid": item("bad", dependencies=["--registry=https://evil.example"]),
        "needs": item("bad", registryDependencies=["old@^9"]),
        "taken": item("old", "other", meta={"innkeeper": {"version": "1.0.0"}}),
    }.get(how, item("bad"))
    syncing.serve(*fine, bad)
    if how == "gone":
        del syncing.forge.files["r/bad.json"]
    if how == "cut":
        syncing.forge.files["r/bad.json"] = syncing.forge.files["r/bad.json"][:50]
    tables = ("components", "component_versions", "component_blobs", "registry_staged")
    before = [await owner.fetch(f"SELECT * FROM {table} ORDER BY 2") for table in tables]

    report = await syncing.sync(source_id)
    assert report["state"] == "failed"
    assert report["published"] == 0
    told = {
        "invalid": ("component_invalid", "/bad/dependencies/0"),
        "gone": ("remote_refused", ""),
        "cut": ("component_invalid", "/bad"),
        "needs": ("component_invalid", "/bad/registryDependencies"),
        "taken": ("component_invalid", "/old"),
    }
    assert (report["error_code"], report["faults"][0]["at"] if report["faults"] else "") == told[how]
    assert [await owner.fetch(f"SELECT * FROM {table} ORDER BY 2") for table in tables] == before
    syncing.serve(*fine, item("bad"))
    assert (await syncing.sync(source_id))["published"] == 21


async def test_a_weak_moment_of_the_source_is_waited_out_and_a_long_one_tried_again_later(syncing: Syncing) -> None:
    syncing.serve(item("a"), item("b"))
    syncing.forge.statuses = {"r/registry.json": [503], "r/b.json": [500, 429, 502, 503]}
    report = await syncing.sync(await syncing.source())
    assert report["published"] == 2
    assert syncing.forge.asked.count("r/b.json") == 5

    syncing.forge.statuses = {"r/registry.json": [503] * 99}
    report = await syncing.sync((await syncing.sync_call("list_registry_sources"))["sources"][0]["id"])
    assert (report["state"], report["error_code"]) == ("failed", "remote_refused")


async def test_syncs_that_wait_behind_another_are_one(syncing: Syncing, owner: Owner) -> None:
    syncing.serve(*(item(f"c{number}") for number in range(30)))
    source_id = await syncing.source()
    ids = [(await syncing.sync_call("sync_registry_source", source_id=source_id))["id"] for _ in range(8)]
    reports = [await syncing.ended(one) for one in ids]
    assert reports[-1]["state"] == "succeeded"
    assert {one["state"] for one in reports} <= {"succeeded", "superseded"}
    assert sum(one["published"] for one in reports) == 30
    assert await owner.fetchval("SELECT count(*) FROM component_versions") == 30
    assert syncing.forge.asked.count("r/registry.json") < 8


async def test_another_innkeepers_feed_is_a_source_of_which_only_what_differs_is_fetched(syncing: Syncing) -> None:
    published = await syncing.publish("card", "same")
    other = await syncing.publish("other", "old")
    feed = f"{syncing.forge.url}/r"
    items = [
        item("card", "same", meta={"innkeeper": {"hash": published["hash"], "version": "7.0.0"}}),
        item("other", "new", registryDependencies=[f"{feed}/card.json"], meta={"innkeeper": {"hash": "sha256:1"}}),
    ]
    syncing.serve(*items)
    report = await syncing.sync(await syncing.source())
    assert (report["published"], report["unchanged"]) == (1, 1)
    assert "r/card.json" not in syncing.forge.asked
    read = await syncing.call("get_component", name="other")
    assert (read["version"], read["registry_dependencies"]) == ("1.0.1", ["card"])
    assert other["version"] == "1.0.0"


async def test_a_sync_goes_nowhere_private_and_no_further_than_the_quota(
    services: Services, tenant: Tenant, upstream: Forge, outside: Outgoing, unasked: None
) -> None:
    guarded = replace(services, outside=Outgoing(Addresses(())))
    async with syncing_in(guarded, tenant, upstream) as syncing:
        with pytest.raises(AppError) as refused:
            await syncing.source()
        assert refused.value.code == "url_not_allowed"
        assert upstream.asked == []
    small = replace(services, outside=outside, storage=StorageRules(quota_bytes=100))
    async with syncing_in(small, tenant, upstream) as syncing:
        syncing.serve(item("small", "x"), item("large", "y" * 101))
        report = await syncing.sync(await syncing.source())
        assert (report["state"], report["error_code"]) == ("failed", "quota_exceeded")
        assert await syncing.found() == []
        for secret in ("?token=x", "#x"):
            with pytest.raises(AppError):
                await syncing.source(f"r/registry.json{secret}")


async def test_a_source_asks_a_person_once_and_can_be_removed(
    services: Services, tenant: Tenant, upstream: Forge
) -> None:
    async with syncing_in(replace(services, outside=reaching_loopback()), tenant, upstream) as syncing:
        with pytest.raises(AppError) as asked:
            await syncing.source()
        assert asked.value.code == "approval_required"
    # What it looks like afterwards is the other tests', where nobody has to be asked.


async def test_what_a_source_published_stays_when_the_source_goes(syncing: Syncing) -> None:
    syncing.serve(item("card"))
    source_id = await syncing.source()
    report = await syncing.sync(source_id)
    with pytest.raises(AppError) as twice:
        await syncing.source()
    assert twice.value.code == "source_exists"
    await syncing.sync_call("delete_registry_source", source_id=source_id)
    assert await syncing.found() == ["card"]
    with pytest.raises(AppError) as gone:
        await syncing.sync_call("get_registry_sync", sync_id=report["id"])
    assert gone.value.code == "sync_not_found"


@pytest.mark.long
@pytest.mark.timeout(600)
async def test_two_thousand_items_take_bounded_memory(
    services: Services, tenant: Tenant, upstream: Forge, outside: Outgoing, unasked: None, tmp_path: Path
) -> None:
    """128 MB of contents go through a process that may grow by a quarter of that."""
    size, count = 64 << 10, 2_000
    names = [f"item-{number}" for number in range(count)]

    def made(path: str) -> bytes | None:
        name = path.rpartition("/")[2].removesuffix(".json")
        code = f"// {name}\n".ljust(size, "x")
        return json.dumps(item(name, code, registryDependencies=["item-0"] if name != "item-0" else [])).encode()

    bare = [{"name": name, "type": "registry:ui", "files": [{"path": "x", "type": "registry:ui"}]} for name in names]
    upstream.serve("r/registry.json", {"items": bare})
    upstream.made = made
    process, most = psutil.Process(), 0
    store = LocalFiles(tmp_path / "files", TicketSigner(KEYS), "")
    await store.open()
    async with (
        aclosing(store),
        syncing_in(replace(services, outside=outside, store=store), tenant, upstream) as syncing,
    ):
        source_id = await syncing.source()
        before = process.memory_info().rss
        sync = await syncing.sync_call("sync_registry_source", source_id=source_id)
        while True:
            most = max(most, process.memory_info().rss)
            report = await syncing.sync_call("get_registry_sync", sync_id=sync["id"])
            if report["state"] not in ("queued", "running"):
                break
        grown = (most - before) >> 20
        print(f"grew by {grown} MB; {report['started_at']} to {report['ended_at']}")
        assert (report["state"], report["published"], report["done"]) == ("succeeded", count, count)
        assert grown < 32
        assert upstream.most <= 8
        again = await syncing.sync(source_id)
        assert (again["published"], again["unchanged"]) == (0, count)
