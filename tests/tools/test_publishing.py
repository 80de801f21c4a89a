"""Publishing components and their versions, and what is refused, through dispatch, over a store in memory."""

from __future__ import annotations

import asyncio
import hashlib
import json
from dataclasses import replace
from typing import Any

import asyncpg
import pytest

from db.database import Database
from tests.conftest import Owner
from tests.fakes.memory_store import MemoryStore
from tests.one_database import authenticator, database, house, owner, stranger, tenant, unasked, urls
from tests.tools.shelf import PROPS, Shelf, item
from tools.component_item import checked
from tools.dispatch import Dispatch
from tools.ports import Services, StorageRules

__all__ = ["authenticator", "database", "house", "owner", "stranger", "tenant", "unasked", "urls"]
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.promise("REG-01")
async def test_a_component_is_published_and_read_back_as_it_was_written(shelf: Shelf, store: MemoryStore) -> None:
    code = 'export const Card = () => "Grüße"\n'
    published = await shelf.publish(
        code=code,
        title="Card",
        description="A box.",
        dependencies=["clsx@^2.1.0"],
        registryDependencies=["@shadcn/button"],
        cssVars={"light": {"z": "1", "a": "2"}},
        docs="Wrap it.",
        version="1.2.0",
        props=PROPS,
        state={"type": "object"},
    )
    assert (published["version"], published["outcome"]) == ("1.2.0", "published")

    read = await shelf.call("get_component", name="card")
    assert (read["name"], read["version"], read["status"], read["type"]) == (
        "card",
        "1.2.0",
        "published",
        "registry:ui",
    )
    assert (read["title"], read["description"], read["docs"]) == ("Card", "A box.", "Wrap it.")
    assert (read["props"], read["state"]) == (PROPS, {"type": "object"})
    assert (read["dependencies"], read["registry_dependencies"]) == (["clsx@^2.1.0"], ["@shadcn/button"])
    size = len(code.encode())
    assert read["files"] == [{"path": "ui/card.tsx", "type": "registry:ui", "size": size, "target": None}]
    assert read["hash"] == published["hash"]
    assert read["omitted"] == []
    file = await shelf.call("get_component", name="card", file="ui/card.tsx")
    assert file["text"] == code
    whole = json.loads((await shelf.call("get_component", name="card", file="item.json"))["text"])
    assert list(whole["cssVars"]["light"]) == ["z", "a"]
    sha256 = hashlib.sha256(code.encode()).hexdigest()
    assert whole["files"][0]["sha256"] == sha256
    assert store.objects[f"registry/{shelf.tenant.project_id}/{sha256}"][0] == code.encode()


@pytest.mark.promise("REG-01")
async def test_what_is_published_never_changes(shelf: Shelf, database: Database) -> None:
    first = await shelf.publish(version="1.0.0")
    again = await shelf.publish(version="1.0.0")
    assert again == {**first, "outcome": "unchanged"}

    error = await shelf.refused("publish_component", item=item(code="changed"), version="1.0.0")
    assert (error.code, error.status) == ("version_taken", 409)
    assert error.details["arguments"] == [{"do": "drop", "at": "version"}]
    for change in ("item = '{}'", "hash = 'x'", "version = '9.9.9'", "props = '{}'"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            async with database.transaction(shelf.tenant.principal, shelf.tenant.project_id) as connection:
                await connection.execute(f"UPDATE component_versions SET {change}")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        async with database.transaction(shelf.tenant.principal, shelf.tenant.project_id) as connection:
            await connection.execute("DELETE FROM component_versions")


@pytest.mark.promise("REG-01")
async def test_without_a_version_the_next_patch_is_published_and_only_if_something_changed(shelf: Shelf) -> None:
    versions = [(await shelf.publish(code=code))["version"] for code in ("a", "b", "b", "c")]
    assert versions == ["1.0.0", "1.0.1", "1.0.1", "1.0.2"]
    await shelf.publish(code="d", version="2.0.0-rc.1")
    assert (await shelf.publish(code="e"))["version"] == "1.0.3"
    await shelf.publish(code="f", version="3.9.41")
    assert (await shelf.publish(code="g"))["version"] == "3.9.42"


@pytest.mark.promise("REG-01")
async def test_the_hash_is_of_the_content_whatever_its_version_and_the_order_of_its_fields(shelf: Shelf) -> None:
    plain = checked(item(title="T", meta={"b": 1, "a": {"y": 1, "x": 2}}))
    turned = checked({"meta": {"a": {"x": 2, "y": 1}, "b": 1}, "title": "T", **item()}, version="4.0.0")
    assert plain.hash == turned.hash
    different = [item(title="U"), item(code="x"), item(type="registry:block"), item(meta={"b": 1.5})]
    assert len({plain.hash, *(checked(one).hash for one in different), checked(item(), props=PROPS).hash}) == 6
    published = await shelf.publish(title="T")
    assert published["hash"] == f"sha256:{checked(item(title='T')).hash.hex()}"


@pytest.mark.promise("REG-01")
async def test_contents_are_stored_once_and_count_against_the_quota(
    shelf: Shelf, store: MemoryStore, services: Services, owner: Owner
) -> None:
    code = "x" * 1000
    await shelf.publish("one", code)
    await shelf.publish("two", code)
    await shelf.publish("two", code, title="New")
    assert len(store.objects) == 1
    used = "SELECT bytes FROM project_storage WHERE project_id = $1"
    assert await owner.fetchval(used, shelf.tenant.project_id) == 1000

    small = Shelf(Dispatch(replace(services, storage=StorageRules(quota_bytes=1500))), shelf.tenant)
    await small.publish("three", code)
    error = await small.refused("publish_component", item=item("four", "y" * 501))
    assert (error.code, error.status) == ("quota_exceeded", 413)
    assert "500 of them are free" in error.message
    assert len(store.objects) == 1
    await owner.execute("DELETE FROM projects WHERE id = $1", shelf.tenant.project_id)
    blobs = "SELECT count(*) FROM component_blobs WHERE project_id = $1"
    assert await owner.fetchval(blobs, shelf.tenant.project_id) == 0


@pytest.mark.promise("REG-01")
async def test_two_who_publish_at_once_get_two_versions(shelf: Shelf) -> None:
    published = await asyncio.gather(*(shelf.publish(code=f"code {number}") for number in range(6)))
    assert sorted(one["version"] for one in published) == [f"1.0.{number}" for number in range(6)]
    same = await asyncio.gather(*(shelf.publish("same") for _ in range(4)))
    assert {one["version"] for one in same} == {"1.0.0"}
    assert sorted(one["outcome"] for one in same) == ["published", *["unchanged"] * 3]


@pytest.mark.promise("REG-01")
async def test_all_that_is_wrong_is_told_at_once_with_its_place(shelf: Shelf, store: MemoryStore) -> None:
    wrong = {
        "name": "card",
        "type": "registry:iu",
        "titel": "Card",
        "dependencies": ["clsx", "--registry=https://evil.example", "file:../x", "git+https://x.example/y", "Clsx"],
        "registryDependencies": ["card", "../secrets.json", "ghost@banana", "@shadcn/button"],
        "files": [
            {"path": "../../etc/passwd", "type": "registry:ui", "content": "x"},
            {"path": "/etc/passwd", "type": "registry:ui", "content": "x"},
            {"path": "a.tsx", "type": "registry:ui", "content": "x", "target": "%2e%2e/b"},
            {"path": "a.tsx", "type": "registry:page", "content": "x"},
            {"path": "big.ts", "type": "registry:lib", "content": "x" * (512 * 1024 + 1)},
            {"path": "empty.ts", "type": "registry:lib"},
        ],
    }
    props = {"type": "array", "properties": {"a": {"type": "strnig"}}}
    state = {"type": "object", "properties": {"far": {"$ref": "https://x.example/s"}, "gone": {"$ref": "#/$defs/x"}}}
    error = await shelf.refused("publish_component", item=wrong, version="1.0", props=props, state=state)

    assert (error.code, error.status) == ("component_invalid", 400)
    told = {
        "/item/type": "registry:ui",
        "/item/titel": "title",
        "/item/dependencies/1": "npm package",
        "/item/dependencies/2": "npm package",
        "/item/dependencies/3": "npm package",
        "/item/dependencies/4": "npm package",
        "/item/registryDependencies/0": "itself",
        "/item/registryDependencies/1": "must be",
        "/item/registryDependencies/2": "version",
        "/item/files/0/path": "..",
        "/item/files/1/path": "relative",
        "/item/files/2/target": "..",
        "/item/files/3/path": "another file",
        "/item/files/3/target": "missing",
        "/item/files/4/content": "524288 bytes",
        "/item/files/5/content": "missing",
        "/version": "1.4.0",
        "/props/type": "object",
        "/props/properties/a/type": "must be one of",
    }
    for pointer, says in told.items():
        assert f"{pointer} " in error.message, pointer
        assert says in error.message.split(f"{pointer} ")[1].split(";")[0], pointer
    assert "/item/dependencies/0" not in error.message
    assert "/item/registryDependencies/3" not in error.message
    repairs = {repair["at"]: repair for repair in error.details["arguments"]}
    assert "registry:ui" in repairs["item.type"]["schema"]["enum"]
    assert store.objects == {}
    assert await shelf.found() == []


@pytest.mark.promise("REG-01")
@pytest.mark.parametrize(
    ("given", "at"),
    [
        ({"item": item(meta={"deep": [[[]]] * 2, "x": "\x00"})}, "/item/meta/x"),
        ({"item": item(meta={"x": "\ud800"})}, "/item/meta/x"),
        ({"item": item("registry")}, "/item/name"),
        ({"item": item("a/b")}, "/item/name"),
        ({"item": item("..")}, "/item/name"),
        ({"item": item(type="registry:font")}, "/item/font"),
        ({"item": item(envVars={"A": "1\nB=2"})}, "/item/envVars/A"),
        ({"item": item(css={"@layer base": {"a": {"b": 1}}})}, "/item/css/@layer base/a/b"),
        ({"item": item(docs="d" * 10_001)}, "/item/docs"),
        ({"item": item(meta={"much": "m" * (256 << 10)})}, "/item "),
        (
            {"item": item(files=[{"path": f"{n}", "type": "registry:ui", "content": "x"} for n in range(101)])},
            "/files ",
        ),
        (
            {"item": item(), "props": {"type": "object", "$schema": "http://json-schema.org/draft-07/schema#"}},
            "$schema",
        ),
        ({"item": item(), "props": {"type": "object", "title": "t" * (64 << 10)}}, "/props "),
        ({"item": item(), "props": {"type": "object", "allOf": [{}] * 3000}}, "/props must be of at most 3000 objects"),
        (
            {"item": item(), "state": {"type": "object", "properties": {"default": {"$ref": "#/$defs/no"}}}},
            "/state/properties/default",
        ),
    ],
)
async def test_each_limit_is_told_where_it_is_broken(shelf: Shelf, given: dict[str, Any], at: str) -> None:
    error = await shelf.refused("publish_component", **given)
    assert error.code == "component_invalid"
    assert at in error.message


@pytest.mark.promise("REG-01")
async def test_a_schema_may_refer_to_its_own_places(shelf: Shelf) -> None:
    props = {
        "type": "object",
        "$defs": {"a/b": {"$anchor": "row", "type": "string", "examples": [{"$ref": "nowhere"}]}},
        "properties": {"x": {"$ref": "#/$defs/a~1b"}, "y": {"$ref": "#row"}, "z": {"$ref": "#"}},
    }
    await shelf.publish(props=props)
    assert (await shelf.call("get_component", name="card"))["props"] == props


@pytest.mark.promise("REG-01")
async def test_a_schema_nested_without_end_is_refused_and_breaks_nothing(shelf: Shelf) -> None:
    deep: dict[str, Any] = {"type": "object"}
    inner = deep
    for _ in range(200):
        inner["properties"] = {"x": {"type": "object"}}
        inner = inner["properties"]["x"]
    assert "nested" in (await shelf.refused("publish_component", item=item(), props=deep)).message


@pytest.mark.promise("REG-01", "REG-03")
async def test_a_plain_name_means_an_item_of_this_registry_and_must_be_there(shelf: Shelf) -> None:
    error = await shelf.refused("publish_component", item=item(registryDependencies=["button"]))
    assert error.code == "component_invalid"
    assert "@shadcn/button" in error.message
    assert await shelf.found() == []

    await shelf.publish("button", version="1.0.0")
    named = ["button", "button@^1.0", "@innkeeper/button", "@acme/chart", "https://other.example/r/x.json"]
    await shelf.publish("card", registryDependencies=named)
    read = await shelf.call("get_component", name="card")
    assert read["registry_dependencies"] == ["button", "button@^1.0", "button", *named[3:]]
    absent = await shelf.refused("publish_component", item=item("grid", registryDependencies=["button@2"]))
    assert "button@2" in absent.message


@pytest.mark.promise("REG-01")
async def test_publishing_in_a_public_registry_asks_a_person_and_in_a_private_one_does_not(
    shelf: Shelf, owner: Owner
) -> None:
    await shelf.publish(version="1.0.0")
    await owner.execute("UPDATE projects SET registry_public = true WHERE id = $1", shelf.tenant.project_id)

    for tool, more in (
        ("publish_component", {"item": item(code="new")}),
        ("set_component_status", {"name": "card", "version": "1.0.0", "status": "yanked"}),
    ):
        error = await shelf.refused(tool, **more)
        assert error.code == "approval_required"
        assert "public registry" in error.message
    await owner.execute("UPDATE approvals SET state = 'approved', decided_by = $1", shelf.tenant.user_id)
    assert (await shelf.publish(code="new"))["version"] == "1.0.1"
    opening = await shelf.refused("update_project", registry_public=True)
    assert opening.code == "approval_required"
    assert "anybody may read and install" in opening.message
    closed = await shelf.call("update_project", registry_public=False, registry_namespace="acme")
    assert (closed["registry_public"], closed["registry_namespace"]) == (False, "acme")
    assert (await shelf.refused("update_project", registry_namespace="shadcn")).code == "invalid_arguments"


@pytest.mark.promise("REG-01")
async def test_an_item_that_was_fetched_is_published_as_it_is(shelf: Shelf) -> None:
    ours = {"version": "3.1.0", "props": PROPS, "hash": "sha256:0", "status": "published"}
    await shelf.call("publish_component", item=item(meta={"mine": 1, "innkeeper": ours}))
    read = await shelf.call("get_component", name="card")
    assert (read["version"], read["props"]) == ("3.1.0", PROPS)
    whole = json.loads((await shelf.call("get_component", name="card", file="item.json"))["text"])
    assert whole["meta"]["mine"] == 1


@pytest.mark.promise("REG-01")
async def test_a_repeat_with_the_same_key_publishes_once(shelf: Shelf, owner: Owner) -> None:
    answers = [await shelf.call("publish_component", key="once", item=item()) for _ in range(3)]
    assert answers[0] == answers[1] == answers[2]
    versions = "SELECT count(*) FROM component_versions WHERE project_id = $1"
    assert await owner.fetchval(versions, shelf.tenant.project_id) == 1
