"""Finding, reading and withdrawing components, through dispatch, over a store in memory."""

from __future__ import annotations

import json

import pytest

from db import components
from tests.conftest import House
from tests.tools.shelf import PROPS, Shelf, item
from tools.component_item import Item, checked
from tools.publishing import selection
from tools.versions import parsed, precedence


@pytest.mark.promise("REG-01")
async def test_a_deprecated_version_is_found_with_its_reason_and_a_yanked_one_only_by_its_version(shelf: Shelf) -> None:
    for version in ("1.0.0", "1.1.0", "2.0.0"):
        await shelf.publish(code=version, version=version, title=f"Card {version}")

    await shelf.call("set_component_status", name="card", version="2.0.0", status="yanked", reason="Leaks.")
    assert (await shelf.call("get_component", name="card"))["version"] == "1.1.0"
    assert await shelf.found("Card 2.0.0") == ["card"]
    assert (await shelf.call("search_components"))["components"][0]["title"] == "Card 1.1.0"
    exact = await shelf.call("get_component", name="card", version="2.0.0")
    assert (exact["status"], exact["reason"]) == ("yanked", "Leaks.")
    assert [(one["version"], one["status"]) for one in exact["versions"]] == [
        ("2.0.0", "yanked"),
        ("1.1.0", "published"),
        ("1.0.0", "published"),
    ]
    assert (await shelf.refused("get_component", name="card", version="^2")).code == "version_not_found"

    await shelf.call("set_component_status", name="card", version="1.1.0", status="deprecated", reason="Use grid.")
    newest = await shelf.call("get_component", name="card", version="1.x")
    assert (newest["version"], newest["status"], newest["reason"]) == ("1.1.0", "deprecated", "Use grid.")
    for version in ("1.0.0", "1.1.0"):
        await shelf.call("set_component_status", name="card", version=version, status="yanked")
    assert await shelf.found() == []
    assert (await shelf.refused("get_component", name="card")).code == "component_not_found"
    await shelf.call("set_component_status", name="card", version="2.0.0", status="published")
    assert (await shelf.call("get_component", name="card"))["version"] == "2.0.0"


@pytest.mark.promise("REG-01")
async def test_versions_sort_and_ranges_choose_as_semantic_versioning_says(shelf: Shelf) -> None:
    # In order, out of https://semver.org/#spec-item-11 and what breaks naive sorting.
    ordered = [
        *("1.0.0-0", "1.0.0-2", "1.0.0-11", "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta"),
        *("1.0.0-beta.2", "1.0.0-beta.11", "1.0.0-beta-x", "1.0.0-rc.1", "1.0.0", "1.0.1", "1.2.0", "1.10.0", "10.0.0"),
    ]
    shuffled = sorted(ordered)
    assert sorted(shuffled, key=lambda text: precedence(parsed(text))) == ordered
    assert shuffled != ordered
    for version in ("0.2.1", "0.2.9", "0.3.0", "1.2.0", "1.2.3", "1.10.0", "2.0.0-rc.1"):
        await shelf.publish(code=version, version=version)
    chosen = {
        "latest": "1.10.0",
        "1": "1.10.0",
        "1.x": "1.10.0",
        "1.2": "1.2.3",
        "~1.2.0": "1.2.3",
        "^1.2.0": "1.10.0",
        "^0.2.1": "0.2.9",
        "0": "0.3.0",
        "2.0.0-rc.1": "2.0.0-rc.1",
        "^2.0.0-rc.0": "2.0.0-rc.1",
        "0.2.x": "0.2.9",
    }
    for wanted, version in chosen.items():
        assert (await shelf.call("get_component", name="card", version=wanted))["version"] == version, wanted
    assert (await shelf.refused("get_component", name="card", version="^2")).code == "version_not_found"
    for nonsense in ("1..2", "newest", "^", "1.2.3+build", "9" * 70, ""):
        assert (await shelf.refused("get_component", name="card", version=nonsense)).code == "invalid_arguments"


@pytest.mark.promise("REG-02")
async def test_searches_find_by_name_start_words_type_and_misspelling_and_put_the_best_first(shelf: Shelf) -> None:
    await shelf.publish("data-table", title="Data table", description="Rows with sorting and pagination.")
    await shelf.publish("chart", title="Chart", description="Draws a table of numbers as bars.", categories=["data"])
    await shelf.publish("price-card", title="Pricing", description="What a plan costs.", docs="Uses the table.")
    await shelf.publish("PriceHook", type="registry:hook", description="Formats prices.", props=PROPS)

    assert await shelf.found() == ["PriceHook", "chart", "data-table", "price-card"]
    assert await shelf.found("data-table") == ["data-table", "chart", "price-card"]
    assert (await shelf.found("data table"))[0] == "data-table"
    assert (await shelf.found("table"))[:2] == ["data-table", "chart"]
    assert await shelf.found("sorted rows") == ["data-table"]
    assert await shelf.found("dat")  # the start of a name
    assert (await shelf.found("data-tabel"))[0] == "data-table"
    assert "price-card" in await shelf.found("pricng")
    assert set(await shelf.found("price")) == {"price-card", "PriceHook"}
    assert await shelf.found("price", type="registry:hook") == ["PriceHook"]
    assert await shelf.found("heading") == ["PriceHook"]  # a prop of it
    for nothing in ("zzzz", "the", "';--", "!!! & |", "x:*"):
        assert await shelf.found(nothing) == [], nothing
    assert (await shelf.refused("search_components", type="registry:nothing")).code == "invalid_arguments"


@pytest.mark.promise("REG-02")
async def test_pages_of_a_search_follow_without_gap_or_repeat(shelf: Shelf) -> None:
    names = [f"card-{number:02}" for number in range(60)]
    for name in names:
        await shelf.publish(name, description="d" * 300)
    for query in ("", "card"):
        seen: list[str] = []
        cursor = None
        while True:
            page = await shelf.call("search_components", query=query, cursor=cursor)
            seen += [one["name"] for one in page["components"]]
            cursor = page["next_cursor"]
            if cursor is None:
                break
        assert sorted(seen) == names


@pytest.mark.promise("REG-02")
async def test_what_does_not_fit_is_named_and_read_in_parts(shelf: Shelf) -> None:
    props = {
        "type": "object",
        "properties": {f"p{number}": {"type": "string", "title": "t" * 40} for number in range(99)},
    }
    code = "".join(f"export const line{number} = {number}\n" for number in range(900))
    await shelf.publish(code=code, props=props, docs="d" * 200)

    outcome = await shelf.dispatch.call(
        shelf.tenant.principal, "get_component", {"project_id": str(shelf.tenant.project_id), "name": "card"}
    )
    assert len(outcome.text.encode()) <= 5000
    assert outcome.structured["omitted"] == ["props"]
    for path, expected in (("ui/card.tsx", code), ("item.json", None)):
        parts, cursor = [], None
        while True:
            read = await shelf.call("get_component", name="card", file=path, cursor=cursor)
            parts.append(read["text"])
            cursor = read["next_cursor"]
            if cursor is None:
                break
        assert len(parts) > 1
        if expected is None:
            assert json.loads("".join(parts))["meta"]["innkeeper"]["props"] == props
        else:
            assert "".join(parts) == expected
    assert (await shelf.refused("get_component", name="card", file="ui/none.tsx")).code == "file_not_found"


@pytest.mark.promise("REG-01")
async def test_viewers_read_and_do_not_publish_and_scopes_are_apart(shelf: Shelf, house: House) -> None:
    await shelf.publish()
    viewer = await house.member(shelf.tenant.project_id, "viewer")
    assert (await shelf.call("get_component", by=viewer, name="card"))["name"] == "card"
    for tool, more in (
        ("publish_component", {"item": item(code="new")}),
        ("set_component_status", {"name": "card", "version": "1.0.0", "status": "yanked"}),
    ):
        assert (await shelf.refused(tool, by=viewer, **more)).code == "role_insufficient"
    reader = await house.principal(await house.key(shelf.tenant.user_id, scopes=["registry:read"]))
    assert (await shelf.call("search_components", by=reader))["components"]
    assert (await shelf.refused("publish_component", by=reader, item=item())).code == "insufficient_scope"


def test_a_component_knows_what_it_needs_of_its_own_registry() -> None:
    made: Item = checked(item(registryDependencies=["a", "b@^1", "@x/c"]))
    assert [str(one) for one in made.own] == ["a", "b@^1"]
    assert selection(None) == components.Selection(None, "", "~", True)
