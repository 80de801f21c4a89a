"""A token whose audience is ``/mcp`` at the other APIs: good by its scopes, on every route that takes a bearer."""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import httpx2
import pytest
import pytest_asyncio

from server.model_choice import ModelChoice
from server.services import Services
from tests.conftest import DatabaseUrls, Owner
from tests.server.oauth.people import Inn, Person, call
from tests.serving import house_on_socket

pytestmark = pytest.mark.promise("IDN-10")
NONE = ModelChoice(None, {}, {}, None, "none")
OTHERS = ("/metrics", "/webhooks/storage", "/r/", "/oauth/")
"""They take bearers of the settings, feed keys, which open nothing else, and a project's key as a client."""
ID = "0190c0de-0000-7000-8000-000000000001"


@pytest_asyncio.fixture
async def house(urls: DatabaseUrls, owner: Owner, tmp_path: Path) -> AsyncIterator[Inn]:
    """The whole product, with a place for files."""
    async with house_on_socket(urls, NONE, tmp_path / "files") as served:
        yield Inn(served.url, owner, cast("Services", None))


@contextlib.asynccontextmanager
async def bearing(house: Inn, token: str) -> AsyncIterator[httpx2.AsyncClient]:
    headers = {"authorization": f"Bearer {token}"}
    async with httpx2.AsyncClient(base_url=house.url, headers=headers, trust_env=False, timeout=30) as http:
        yield http


async def token_of(house: Inn, person: Person, scope: str) -> str:
    program = await house.program()
    return str((await program.tokens(person, asked={"scope": scope}))["access_token"])


def refusal(answer: httpx2.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["type"].rpartition(":")[2]


def started(run: str) -> dict[str, Any]:
    message = {"id": "1", "role": "user", "content": "Which projects are there?"}
    shared = {"messages": [message], "tools": [], "context": [], "state": {}, "forwardedProps": {}}
    return {"threadId": "one", "runId": run, **shared}


async def test_scopes_that_were_granted_open_the_other_apis_and_no_further_ones(house: Inn) -> None:
    png = {"contentType": "image/png", "size": 3}
    async with house.person() as person:
        runs = await token_of(house, person, "runs:read runs:write projects:read")
        reads = await token_of(house, person, "runs:read projects:read")
        files = await token_of(house, person, "storage:read storage:write")
        project = str(person.projects["One"])
        at = {"project": project}

        async with bearing(house, runs) as http:
            told = await http.post("/agui/demo", params=at, json=started("first"))
            assert told.status_code == 200, told.text
            assert told.headers["content-type"].startswith("text/event-stream")
            assert "RUN_FINISHED" in told.text
            run = told.headers["innkeeper-run-id"]
            said = {"message": {"role": "user", "content": [{"type": "text", "text": "Hello"}]}}
            begun = await http.post("/v1/threads/runs", params={**at, "agent": "demo"}, json=said)
            assert begun.status_code == 200, begun.text
            thread = f"/v1/threads/{begun.headers['x-thread-id']}"
            assert (await http.get(thread, params=at)).json()["runStatus"] == "idle"
            assert (await http.get(f"/runs/{run}")).json()["status"] == "succeeded"
            assert "RUN_FINISHED" in (await http.get(f"/runs/{run}/events")).text
            assert (await http.post(f"/runs/{run}/cancel")).status_code == 200
            refused = await http.post("/storage/presign", params=at, json=png)
            assert refusal(refused) == (403, "insufficient_scope")

        async with bearing(house, reads) as http:
            assert (await http.get(f"/runs/{run}")).status_code == 200
            for answer in (
                await http.post("/agui/demo", params=at, json=started("second")),
                await http.post(f"/runs/{run}/cancel"),
                await http.post(f"{thread}/runs", params=at, json=said),
                await http.delete(thread, params=at),
            ):
                assert refusal(answer) == (403, "insufficient_scope")
            assert (await http.get(f"{thread}/messages", params=at)).status_code == 200

        async with bearing(house, files) as http:
            assert (await http.get(f"/runs/{run}")).status_code in (403, 404)
            assert refusal(await http.get(thread, params=at)) == (403, "insufficient_scope")
            assert (await http.post("/agui/demo", params=at, json=started("third"))).status_code == 403
            placed = await http.post("/storage/presign", params=at, json=png)
            assert placed.status_code == 200, placed.text
            file_id = placed.json()["attachmentUri"].rpartition("/")[2]
        async with httpx2.AsyncClient(trust_env=False, timeout=60) as anybody:
            # The ticket is in the address: the bytes need no token beside it.
            sent = await anybody.put(placed.json()["uploadUrl"], content=b"png", headers={"content-type": "image/png"})
            assert sent.is_success, sent.text
            ready = await call(house, files, "confirm_upload", project_id=project, file_id=file_id)
            assert ready.json()["result"]["structuredContent"]["status"] == "ready"
            ticket = (await call(house, files, "get_file", project_id=project, file_id=file_id)).json()
            address = ticket["result"]["structuredContent"]["ticket"]["url"]
            assert (await anybody.get(address)).content == b"png"

        # A token for one project is one at every door.
        program = await house.program()
        chosen = await program.tokens(person, asked={"scope": "runs:write runs:read"}, projects=["Two"])
        async with bearing(house, chosen["access_token"]) as http:
            assert (await http.get(f"/runs/{run}")).status_code == 404
            assert (await http.get(thread, params=at)).status_code == 404
            assert (await http.post("/agui/demo", params=at, json=started("fourth"))).status_code == 404


async def test_every_route_that_takes_a_bearer_takes_such_a_token(house: Inn) -> None:
    """By what the house says of itself, so that a route that comes later is held to it too."""
    async with house.person() as person:
        token = await token_of(house, person, "")
        async with bearing(house, token) as http, bearing(house, token[:-1] + "?") as stranger:
            paths = (await http.get("/openapi.json")).json()["paths"]
            asked = [
                (method, re.sub(r"\{[^}]*\}", ID, path))
                for path, item in paths.items()
                for method, told in item.items()
                if {"bearer": []} in told.get("security", []) and not path.startswith(OTHERS)
            ]
            assert {path for _, path in asked} >= {
                "/agui",
                f"/runs/{ID}",
                "/v1/threads",
                "/storage/presign",
                "/mcp/preview",
            }
            for method, path in asked:
                body: dict[str, str] | None = {} if method in ("post", "put", "patch") else None
                known = await http.request(method, path, json=body)
                unknown = await stranger.request(method, path, json=body)
                assert known.status_code != 401, (method, path, known.text)
                assert unknown.status_code == 401, (method, path, unknown.text)
