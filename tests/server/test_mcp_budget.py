"""How many tokens a model is asked to read: listings, instructions and results, counted with the tokenizer itself."""

from __future__ import annotations

import base64
import json
import random
import re
from typing import Any

import pytest
from mcp.client import Client

from server.mcp.handlers import INSTRUCTIONS
from tests import budget
from tests.conftest import Owner, Tenant
from tests.one_database import authenticator, database, house, owner, stranger, tenant, unasked, urls
from tests.server.test_mcp_house import ERAS, address, app, connected
from tests.server.test_mcp_resources import make_projects
from tools.catalog import CATALOG
from tools.result import MOST_BYTES, USUAL_BYTES

__all__ = ["address", "app", "authenticator", "database", "house", "owner", "stranger", "tenant", "unasked", "urls"]
pytestmark = [pytest.mark.promise("MCP-02"), pytest.mark.asyncio(loop_scope="module")]
NOISE = random.Random(2)
TEXTS = {
    "English": "The quick brown fox jumps over the lazy dog. " * 500,
    "rare ideographs": "".join(chr(NOISE.randrange(0x20000, 0x2A6D6)) for _ in range(20_000)),
    "ideographs": "".join(chr(NOISE.randrange(0x4E00, 0x9FFF)) for _ in range(20_000)),
    "emoji": "".join(chr(NOISE.randrange(0x1F300, 0x1FAFF)) for _ in range(20_000)),
    "base64": base64.b64encode(NOISE.randbytes(15_000)).decode()[:20_000],
    "controls": "".join(chr(NOISE.randrange(1, 32)) for _ in range(20_000)),
    "quotes": '"\\' * 10_000,
}
ALL_TEXTS = pytest.mark.parametrize("text", [text[:20_000] for text in TEXTS.values()], ids=list(TEXTS))


def read(result: Any) -> str:
    """All that a model reads of a result."""
    return "\n".join(block.text for block in result.content)


def within(result: Any, most: int) -> None:
    """Both halves of a result hold: the text, and the data as a host would print it."""
    assert budget.tokens(read(result)) <= most
    assert len(read(result).encode()) <= most
    assert budget.tokens(json.dumps(result.structured_content, ensure_ascii=False, separators=(",", ":"))) <= most


async def test_the_default_listing_and_the_instructions_keep_their_budget() -> None:
    assert budget.kept(), budget.report()


async def test_the_report_names_every_tool_with_its_cost() -> None:
    for name, count in budget.listed().items():
        assert re.search(rf"^ +{count} {name}$", budget.report(), re.MULTILINE)
    assert f"{budget.tokens(INSTRUCTIONS)} of fewer than 200" in budget.report()


async def test_a_narrowed_listing_costs_less() -> None:
    assert sum(budget.listed(bound=True).values()) < sum(budget.listed().values())


@ALL_TEXTS
async def test_a_long_text_comes_whole_in_parts_that_each_keep_the_budget(
    address: str, tenant: Tenant, owner: Owner, text: str
) -> None:
    [project_id] = await make_projects(owner, tenant, "😀" * 80)
    await owner.execute(
        "UPDATE projects SET instructions = $1, model = $2 WHERE id = $3::uuid", text, "𠀀" * 200, project_id
    )
    for most in (USUAL_BYTES, MOST_BYTES):
        parts: list[str] = []
        asked: dict[str, Any] = {"project_id": project_id}
        if most != USUAL_BYTES:
            asked["max_bytes"] = most
        async with connected(address, tenant.token, "2026-07-28") as client:
            while True:
                result = await client.call_tool("get_project", asked)
                assert not result.is_error
                within(result, most)
                found = dict(result.structured_content or {})
                parts.append(found["instructions"])
                if found["next_cursor"] is None:
                    break
                assert f'call get_project with cursor="{found["next_cursor"]}"' in read(result)
                asked["cursor"] = found["next_cursor"]
        assert "".join(parts) == text
        assert all(parts)


@ALL_TEXTS
async def test_a_write_answers_with_the_beginning_and_says_where_the_rest_is(
    address: str, tenant: Tenant, text: str
) -> None:
    async with connected(address, tenant.token, "2026-07-28") as client:
        made = await client.call_tool("create_project", {"name": "Long", "instructions": text})
        within(made, USUAL_BYTES)
        found = dict(made.structured_content or {})
        assert text.startswith(found["instructions"])
        assert f'call get_project with cursor="{found["next_cursor"]}"' in read(made)
        rest = await client.call_tool("get_project", {"project_id": found["id"], "cursor": found["next_cursor"]})
    assert text.startswith(found["instructions"] + dict(rest.structured_content or {})["instructions"])


async def test_a_cursor_into_a_text_that_has_changed_is_refused_with_what_to_do(address: str, tenant: Tenant) -> None:
    async with connected(address, tenant.token, "2026-07-28") as client:
        made = await client.call_tool("create_project", {"name": "Long", "instructions": "a" * 20_000})
        found = dict(made.structured_content or {})
        await client.call_tool("update_project", {"project_id": found["id"], "instructions": "b" * 20_000})
        again = {"project_id": found["id"], "cursor": found["next_cursor"]}
        refused = await client.call_tool("get_project", again)
        foreign = await client.call_tool("get_project", {**again, "cursor": "azE"})
    assert refused.is_error
    assert "stale_cursor" in read(refused)
    assert "Leave cursor out" in read(refused)
    assert "invalid_cursor" in read(foreign)


async def pages(client: Client, asked: dict[str, Any], most: int) -> list[str]:
    """The ids on all pages, each of which must keep the budget."""
    seen: list[str] = []
    while True:
        result = await client.call_tool("list_projects", asked)
        assert not result.is_error
        within(result, most)
        found = dict(result.structured_content or {})
        assert found["projects"]
        seen += [project["id"] for project in found["projects"]]
        if found["next_cursor"] is None:
            return seen
        assert f'call list_projects with cursor="{found["next_cursor"]}"' in read(result)
        asked = {**asked, "cursor": found["next_cursor"]}


@ERAS
@pytest.mark.parametrize("name", ["p", "😀" * 80, "\x01" * 79 + "x"], ids=["short", "emoji", "controls"])
async def test_a_list_keeps_the_budget_without_gap_or_repeat_whatever_names_are(
    address: str, tenant: Tenant, owner: Owner, mode: str, name: str
) -> None:
    ids = await make_projects(owner, tenant, *([name] * 110))
    async with connected(address, tenant.token, mode) as client:
        expected = [*reversed(ids), str(tenant.project_id)]
        assert await pages(client, {}, USUAL_BYTES) == expected
        assert await pages(client, {"limit": 100}, MOST_BYTES) == expected


async def test_a_prompt_that_brings_a_long_project_along_keeps_the_budget(
    address: str, tenant: Tenant, owner: Owner
) -> None:
    await owner.execute("UPDATE projects SET instructions = $1", TEXTS["rare ideographs"][:20_000])
    async with connected(address, tenant.token, "2026-07-28") as client:
        found = await client.get_prompt("review_project_settings", {"project": str(tenant.project_id)})
        resource = await client.read_resource(f"innkeeper://projects/{tenant.project_id}")
    assert budget.tokens(found.messages[1].content.resource.text) <= USUAL_BYTES  # type: ignore[union-attr]  # embedded
    assert budget.tokens(resource.contents[0].text) <= MOST_BYTES  # type: ignore[union-attr]  # text contents


async def test_every_tool_that_reads_pages_or_answers_with_little() -> None:
    for spec in CATALOG.tools:
        if "next_cursor" in spec.output_schema.get("properties", {}) and spec.hints.read_only:
            assert "cursor" in spec.input_schema["properties"], spec.name
