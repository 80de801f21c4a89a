"""The registry's feed over HTTP: who may read it, what its documents say, and how they are cached."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any, cast

import httpx2
import pytest
import pytest_asyncio
from starlette.applications import Starlette

from db import accounts
from db.database import Database
from db.ids import uuid7
from server.http import registry_feed
from tests.conftest import House, Owner, Tenant
from tests.fakes.memory_store import MemoryStore
from tests.server.edge_services import EdgeServices, edge_app
from tests.tools.shelf import PROPS, Shelf, shelf
from tools.catalog import CATALOG
from tools.dispatch import Dispatch
from tools.ports import PagesAt, Services

__all__ = ["shelf"]
pytestmark = pytest.mark.promise("REG-03")
HOUSE = "https://house.example.test"


@dataclass
class FeedHouse:
    database: Database
    dispatch: Dispatch
    public_url: str | None = HOUSE


class Reader:
    """Reads a feed: with a key, or the public one of a project."""

    def __init__(self, http: httpx2.AsyncClient, base: str, key: str | None) -> None:
        self.http = http
        self.base = base
        self.headers = {"authorization": f"Bearer {key}"} if key else {}

    async def get(self, path: str, **headers: str) -> httpx2.Response:
        return await self.http.get(f"{self.base}/{path}", headers={**self.headers, **headers})

    async def read(self, path: str) -> dict[str, Any]:
        response = await self.get(path)
        assert response.status_code == 200, response.text
        found: dict[str, Any] = response.json()
        return found


@pytest.fixture
def dispatch(services: Services) -> Dispatch:
    return Dispatch(replace(services, pages=PagesAt(HOUSE)))


@pytest_asyncio.fixture
async def http(database: Database, dispatch: Dispatch) -> AsyncIterator[httpx2.AsyncClient]:
    app = Starlette(routes=registry_feed.routes(FeedHouse(database, dispatch)))
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://feed") as client:
        yield client


@pytest_asyncio.fixture
async def public(http: httpx2.AsyncClient, shelf: Shelf, owner: Owner) -> Reader:
    """The feed of a project that is public, and may be published in without asking."""
    await owner.execute("UPDATE projects SET registry_public = true, approval_policy = 'never'")
    return Reader(http, f"/r/{shelf.tenant.project_id}", None)


@pytest_asyncio.fixture
async def keyed(http: httpx2.AsyncClient, shelf: Shelf, owner: Owner) -> Reader:
    """The feed of the same project for who has a key."""
    _id, key = await accounts.create_feed_key(owner, shelf.tenant.user_id, shelf.tenant.project_id)
    return Reader(http, "/r", key)


async def test_an_item_comes_in_shadcns_format_with_contents_and_our_own_in_its_meta(
    public: Reader, keyed: Reader, shelf: Shelf
) -> None:
    code = 'export const Card = "Grüße"'
    published = await shelf.publish(code=code, title="Card", cssVars={"light": {"z": "1", "a": "2"}}, props=PROPS)

    for reader in (public, keyed):
        document = await reader.read("card.json")
        assert document == {
            "$schema": "https://ui.shadcn.com/schema/registry-item.json",
            "name": "card",
            "type": "registry:ui",
            "files": [{"path": "ui/card.tsx", "type": "registry:ui", "content": code}],
            "title": "Card",
            "cssVars": {"light": {"z": "1", "a": "2"}},
            "meta": {"innkeeper": {"version": "1.0.0", "hash": published["hash"], "props": PROPS}},
        }
        assert list(document["cssVars"]["light"]) == ["z", "a"]
        assert (await reader.read("card@1.0.0.json")) == document


async def test_own_dependencies_lead_back_here_and_others_stay_theirs(
    public: Reader, keyed: Reader, shelf: Shelf
) -> None:
    await shelf.publish("button", version="1.4.0")
    others = ["@shadcn/button", "@acme/chart", "https://other.example/r/x.json"]
    await shelf.publish(registryDependencies=["button", "button@^1.2.0", *others])

    mine = f"{HOUSE}/r/{shelf.tenant.project_id}"
    dependencies = (await public.read("card.json"))["registryDependencies"]
    assert dependencies == [f"{mine}/button.json", f"{mine}/button@%5E1.2.0.json", *others]
    assert (await public.read("button@%5E1.2.0.json"))["meta"]["innkeeper"]["version"] == "1.4.0"
    named = ["@innkeeper/button", "@innkeeper/button@^1.2.0", *others]
    assert (await keyed.read("card.json"))["registryDependencies"] == named
    listed = {one["name"]: one for one in (await keyed.read("registry.json"))["items"]}
    assert listed["card"]["registryDependencies"] == named


async def test_a_registry_lists_its_items_without_contents_and_searches_and_pages(
    public: Reader, keyed: Reader, shelf: Shelf
) -> None:
    for name in ("alpha", "beta", "gamma"):
        await shelf.publish(name, title=f"The {name}")
    await shelf.publish("hook", type="registry:hook")
    await shelf.publish("gone", version="1.0.0")
    await shelf.call("set_component_status", name="gone", version="1.0.0", status="yanked")
    for reader in (public, keyed):
        document = await reader.read("registry.json")
        assert [one["name"] for one in document["items"]] == ["alpha", "beta", "gamma", "hook"]
        assert document["name"] == "innkeeper"
        assert document["homepage"].startswith("https://")
        assert document["items"][0]["files"] == [{"path": "ui/alpha.tsx", "type": "registry:ui"}]
        assert "pagination" not in document
        page = await reader.read("registry.json?limit=2&offset=1")
        assert [one["name"] for one in page["items"]] == ["beta", "gamma"]
        assert page["pagination"] == {"total": 4, "offset": 1, "limit": 2, "hasMore": True}
        found = await reader.read("registry.json?q=beta&type=registry:ui&limit=5")
        assert [one["name"] for one in found["items"]] == ["beta"]
        types = await reader.read("registry.json?type=registry:hook,registry:ui&limit=1&offset=3")
        assert [one["name"] for one in types["items"]] == ["hook"]
        assert types["pagination"] == {"total": 4, "offset": 3, "limit": 1, "hasMore": False}
        assert (await reader.get("registry.json?type=registry:x")).status_code == 400


async def test_what_is_not_public_or_not_there_or_another_tenants_cannot_be_told_apart(
    http: httpx2.AsyncClient, shelf: Shelf, house: House, owner: Owner, stranger: Tenant
) -> None:
    await shelf.publish(version="1.0.0")
    _id, theirs = await accounts.create_feed_key(owner, stranger.user_id, stranger.project_id)
    for path in ("card.json", "card@1.0.0.json", "registry.json"):
        answers = [
            await http.get(f"/r/{project}/{path}")
            for project in (shelf.tenant.project_id, stranger.project_id, uuid7())
        ]
        assert {(one.status_code, one.content) for one in answers} == {(404, answers[0].content)}
        answer = await Reader(http, "/r", theirs).get(path)
        assert (answer.status_code == 200 and answer.json()["items"] == []) or (
            answer.status_code == 404 and answer.content == answers[0].content
        )


async def test_only_a_live_feed_key_opens_the_keyed_feed_and_it_opens_nothing_else(
    http: httpx2.AsyncClient, keyed: Reader, shelf: Shelf, owner: Owner, house: House
) -> None:
    await shelf.publish()
    secret = await house.key(shelf.tenant.user_id, project_id=shelf.tenant.project_id, scopes=["registry:read"])
    for headers in ({}, {"authorization": f"Bearer {secret}"}, {"authorization": "Bearer ik_fk_x"}, {"x-api-key": "x"}):
        refused = await http.get("/r/card.json", headers=headers)
        assert refused.status_code == 401
        assert refused.headers["www-authenticate"].startswith("Bearer")
        assert refused.headers["vary"] == "Authorization"
        assert (await http.get(f"/r/card.json?token={secret}", headers=headers)).status_code == 401
    feed_key = keyed.headers["authorization"].removeprefix("Bearer ")
    with pytest.raises(AssertionError):
        await house.principal(feed_key)
    assert (await keyed.get("card.json")).status_code == 200
    await accounts.revoke_key(owner, feed_key)
    assert (await keyed.get("card.json")).status_code == 401


async def test_the_keyed_feed_is_private_and_varies_and_the_public_one_may_be_shared(
    public: Reader, keyed: Reader, shelf: Shelf
) -> None:
    await shelf.publish(version="1.0.0")
    for path in ("registry.json", "card.json", "card@1.0.0.json", "card@1.json", "none.json"):
        private = await keyed.get(path)
        assert private.headers["vary"] == "Authorization"
        shared = await public.get(path)
        assert "vary" not in shared.headers
        if path == "none.json":
            assert (private.headers["cache-control"], shared.headers["cache-control"]) == ("no-store", "no-store")
            continue
        lasting = "max-age=31536000, immutable" if path == "card@1.0.0.json" else "max-age=0, must-revalidate"
        assert private.headers["cache-control"] == f"private, {lasting}"
        assert shared.headers["cache-control"] == f"public, {lasting}"


async def test_pages_of_any_origin_read_the_public_feed_and_nothing_else(
    database: Database, dispatch: Dispatch, shelf: Shelf, owner: Owner
) -> None:
    await owner.execute("UPDATE projects SET registry_public = true, approval_policy = 'never'")
    await shelf.publish(version="1.0.0")
    house = EdgeServices(CATALOG, dispatch, cast("Any", None), cast("Any", database))
    transport = httpx2.ASGITransport(app=edge_app(house))
    feed, foreign = f"/r/{shelf.tenant.project_id}", {"origin": "https://foreign.example"}
    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as http:
        for path, status in (("registry.json", 200), ("card@1.0.0.json", 200), ("none.json", 404)):
            # The same for whoever asks, so that one kept by a cache serves everybody.
            for headers in ({}, foreign, {"origin": "http://localhost:3000"}):
                answer = await http.get(f"{feed}/{path}", headers=headers)
                assert answer.status_code == status
                assert answer.headers.get_list("access-control-allow-origin") == ["*"]
                assert "access-control-allow-credentials" not in answer.headers
                assert "vary" not in answer.headers
        assert (await http.head(f"{feed}/card.json", headers=foreign)).status_code == 200
        assert (await http.get(f"{feed}/card.json", headers={"host": "foreign.example"})).status_code == 421
        asking = {"access-control-request-method": "GET", "access-control-request-headers": "authorization"}
        for refused in (
            await http.get("/r/registry.json", headers=foreign),
            await http.get(f"/r/../r/{shelf.tenant.project_id}", headers=foreign),
            await http.post(f"{feed}/card.json", headers=foreign),
            await http.options(f"{feed}/card.json", headers=foreign | asking),
        ):
            assert refused.status_code == 403
            assert "access-control-allow-origin" not in refused.headers


async def test_validators_change_exactly_when_the_document_does(
    public: Reader, keyed: Reader, shelf: Shelf, owner: Owner, store: MemoryStore
) -> None:
    await shelf.publish("other")
    await shelf.publish(version="1.0.0")
    for reader in (public, keyed):
        for path in ("card.json", "card@1.0.0.json", "registry.json"):
            first = await reader.get(path)
            etag = first.headers["etag"]
            assert (await reader.get(path)).headers["etag"] == etag
            for held in (etag, f"W/{etag}", f'"x", {etag}', "*"):
                fresh = await reader.get(path, **{"if-none-match": held})
                assert (fresh.status_code, fresh.content) == (304, b"")
                for name in ("etag", "cache-control"):
                    assert fresh.headers[name] == first.headers[name]
            assert (await reader.get(path, **{"if-none-match": '"x"'})).content == first.content
            head = await reader.http.head(f"{reader.base}/{path}", headers=reader.headers)
            assert (head.status_code, head.headers["etag"]) == (200, etag)
    path = "card.json"
    exact = "card@1.0.0.json"
    tags = {one: (await public.get(one)).headers["etag"] for one in (path, exact)}
    objects, store.objects = store.objects, {}  # a reader who has it costs the store nothing
    assert (await public.get(path, **{"if-none-match": tags[path]})).status_code == 304
    store.objects = objects

    await shelf.publish("other", "new")
    assert (await public.get(path)).headers["etag"] == tags[path]
    await shelf.call("set_component_status", name="card", version="1.0.0", status="deprecated", reason="Old.")
    told = await public.get(path)
    assert told.json()["docs"] == "1.0.0 is deprecated: Old."
    assert told.json()["meta"]["innkeeper"]["status"] == "deprecated"
    assert told.headers["etag"] != tags[path]
    assert (await public.get(exact)).headers["etag"] == tags[exact]
    private = (await keyed.get(exact)).headers["etag"]
    await owner.execute("UPDATE projects SET registry_namespace = 'acme'")
    assert (await keyed.get(exact, **{"if-none-match": private})).status_code == 200


async def test_a_yanked_version_is_given_to_who_names_it_alone(public: Reader, keyed: Reader, shelf: Shelf) -> None:
    await shelf.publish(code="1", version="1.0.0")
    await shelf.publish(code="2", version="1.1.0")
    await shelf.call("set_component_status", name="card", version="1.1.0", status="yanked")
    for reader in (public, keyed):
        assert (await reader.read("card.json"))["meta"]["innkeeper"]["version"] == "1.0.0"
        assert (await reader.read("card@1.x.json"))["meta"]["innkeeper"]["version"] == "1.0.0"
        assert (await reader.read("card@1.1.0.json"))["files"][0]["content"] == "2"
    await shelf.call("set_component_status", name="card", version="1.0.0", status="yanked")
    for reader in (public, keyed):
        assert (await reader.get("card.json")).status_code == 404
        assert (await reader.read("registry.json"))["items"] == []


@pytest.mark.parametrize("path", ["card@.json", "card@x.json", "%00.json", "card@1.0.0@2.json", "..%2Fcard.json"])
async def test_nonsense_is_simply_not_there(public: Reader, shelf: Shelf, path: str) -> None:
    await shelf.publish(version="1.0.0")
    assert (await public.get(path)).status_code == (200 if path == "card@.json" else 404)


async def test_what_was_fetched_can_be_published_as_it_is(public: Reader, shelf: Shelf) -> None:
    await shelf.publish("button")
    first = await shelf.publish(registryDependencies=["button"], version="2.1.0", props=PROPS)
    document = await public.read("card.json")
    again = await shelf.call("publish_component", item=document)
    assert again == {**first, "outcome": "unchanged"}
