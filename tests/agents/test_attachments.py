"""What a run does with files that its messages name: a ticket through MCP as the caller, then bytes from the store."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest
import pytest_asyncio

from agents.attachment_address import address
from agents.attachments import LARGEST
from tests.conftest import DatabaseUrls, House, Owner, Tenant
from tests.fakes.openai_server import ScriptedModel, scripted_model
from tests.fakes.script import Turn
from tests.serving import house_on_socket, scripted
from tests.storage.desk import Desk
from tools.result import MOST_BYTES

PIXELS = b"\x89PNG" + bytes(range(256)) * 800
pytestmark = pytest.mark.promise("STO-06")


@pytest_asyncio.fixture
async def model() -> AsyncIterator[ScriptedModel]:
    async with scripted_model() as model:
        yield model


@pytest_asyncio.fixture
async def desk(urls: DatabaseUrls, model: ScriptedModel, tenant: Tenant, tmp_path: Path) -> AsyncIterator[Desk]:
    async with (
        house_on_socket(urls, scripted(model.base_url), tmp_path / "files") as house,
        httpx2.AsyncClient(timeout=30, trust_env=False) as client,
    ):
        yield Desk(client, house.url, tenant.token, tenant.project_id)


def said(desk: Desk, file_id: str, kind: str = "image", text: str = "What is this?") -> dict[str, Any]:
    """A user message with a file attached."""
    source = {"type": "url", "value": address(desk.project_id, UUID(file_id)), "mimeType": "image/png"}
    return {
        "id": str(uuid4()),
        "role": "user",
        "content": [{"type": "text", "text": text}, {"type": kind, "source": source}],
    }


async def run(desk: Desk, *messages: dict[str, Any], thread: str = "thread") -> list[dict[str, Any]]:
    """The events of a run."""
    asked = {"threadId": thread, "runId": str(uuid4()), "messages": messages}
    where = f"{desk.url}/agui?project={desk.project_id}"
    answer = await desk.client.post(where, json=asked, headers={"authorization": f"Bearer {desk.token}"})
    return [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: ")]


def shown_to(model: ScriptedModel, request: int = -1) -> str:
    return json.dumps(model.requests[request].body["messages"])


async def test_the_model_gets_the_bytes_of_an_attachment_which_no_answer_could_hold(
    desk: Desk, model: ScriptedModel, owner: Owner
) -> None:
    assert len(PIXELS) > MOST_BYTES
    file_id = await desk.file("shots/one.png", PIXELS, content_type="image/png")
    model.script(Turn("A picture."), Turn("The same."))

    events = await run(desk, said(desk, file_id))
    assert events[-1]["type"] == "RUN_FINISHED", events
    bytes_as_shown = base64.b64encode(PIXELS).decode()
    assert f"data:image/png;base64,{bytes_as_shown}" in shown_to(model)
    stored = await owner.fetchval("SELECT string_agg(content::text, '') FROM messages")
    assert address(desk.project_id, UUID(file_id)) in stored
    assert len(stored) < 5_000
    logged = await owner.fetchval("SELECT string_agg(convert_from(event, 'UTF8'), '') FROM run_events")
    assert "/files/" not in logged

    await run(desk, {"id": "again", "role": "user", "content": "And now?"})
    assert bytes_as_shown in shown_to(model)

    # What is gone by now ends no later run of its thread.
    await owner.execute("UPDATE projects SET approval_policy = 'never'")
    await desk.call("delete_file", file_id=file_id)
    assert (await run(desk, {"id": "later", "role": "user", "content": "And now?"}))[-1]["type"] == "RUN_FINISHED"
    assert bytes_as_shown not in shown_to(model)
    assert "which cannot be read any more" in shown_to(model)


async def test_what_was_sent_and_never_confirmed_is_confirmed_when_it_is_read(desk: Desk, model: ScriptedModel) -> None:
    made = await desk.sent("notes.txt", b"Buy milk.", content_type="text/plain")

    await run(desk, said(desk, made["id"], "document"))

    assert "Buy milk." in shown_to(model)
    assert (await desk.call("get_file", file_id=made["id"]))["status"] == "ready"


async def test_what_a_type_says_beside_itself_keeps_no_file_from_the_model(desk: Desk, model: ScriptedModel) -> None:
    file_id = await desk.file("said.wav", b"RIFF", content_type="audio/wav;codecs=1")

    events = await run(desk, said(desk, file_id, "audio"))

    assert events[-1]["type"] == "RUN_FINISHED", events
    assert base64.b64encode(b"RIFF").decode() in shown_to(model)


async def test_a_file_that_never_came_or_is_not_the_callers_ends_the_run_before_the_model_is_asked(
    desk: Desk, model: ScriptedModel, house: House, tenant: Tenant, stranger: Tenant
) -> None:
    theirs = replace(desk, token=stranger.token, project_id=stranger.project_id)
    foreign = await theirs.file("secret.txt", b"secret", content_type="text/plain")
    mine = await desk.file("mine.txt", b"mine", content_type="text/plain")
    pending = await desk.call("create_upload", path="pending", size=1)
    blind = replace(desk, token=await house.key(tenant.user_id, scopes=["runs:read", "runs:write"]))
    asked = [
        (desk, said(desk, foreign)),
        (desk, said(theirs, foreign)),
        (desk, said(desk, str(uuid4()))),
        (desk, said(replace(desk, project_id=uuid4()), foreign)),
        (desk, said(desk, pending["id"])),
        (blind, said(desk, mine)),
    ]

    endings = [(await run(who, message, thread=str(uuid4())))[-1] for who, message in asked]

    assert {(event["type"], event["code"]) for event in endings} == {("RUN_ERROR", "attachment_unreadable")}
    assert endings[0]["message"] == endings[2]["message"]
    assert endings[1]["message"] == endings[3]["message"]
    assert model.requests == []


async def test_more_than_a_run_takes_is_refused_before_it_is_read(
    desk: Desk, model: ScriptedModel, tmp_path: Path
) -> None:
    file_id = await desk.file("long.bin", b"x" * 10, content_type="application/pdf")
    [path] = (tmp_path / "files" / "files").rglob(file_id)
    assert path.read_bytes() == b"x" * 10
    made = await desk.call("create_upload", path="longer.bin", size=LARGEST + 1)
    ticket = made["ticket"]
    assert (await desk.use(ticket, b"x" * (LARGEST + 1))).status_code == 201
    await desk.call("confirm_upload", file_id=made["id"])

    ending = (await run(desk, said(desk, made["id"], "document")))[-1]

    assert ending["code"] == "content_too_large"
    assert model.requests == []
    ending = (await run(desk, said(desk, file_id, "document")))[-1]
    assert ending["type"] == "RUN_FINISHED", ending
    assert base64.b64encode(b"x" * 10).decode() in shown_to(model)


async def test_an_address_that_is_none_of_ours_is_not_read(desk: Desk, model: ScriptedModel) -> None:
    message = said(desk, str(uuid4()))
    message["content"][1]["source"]["value"] = "http://169.254.169.254/latest/meta-data"
    asked = {"threadId": "t", "runId": "r", "messages": [message]}

    answer = await desk.client.post(f"{desk.url}/agui", json=asked, headers={"authorization": f"Bearer {desk.token}"})

    assert answer.json()["type"] == "urn:innkeeper:error:content_not_supported"
    assert "innkeeper://" in answer.json()["hint"]
