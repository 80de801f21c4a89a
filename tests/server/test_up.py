from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import httpx2
import pytest

from db.tokens import new_token
from server.data_directory import DataDirectory
from server.first_account import ensure_first_account
from tests.conftest import DatabaseUrls, eventually
from tests.fakes.openai_server import scripted_model
from tests.fakes.script import Gate, Turn
from tests.server.command import Running, descendants, ended, is_alive, run, spawn, up


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One data directory for the module: its first test makes it, the others start warm."""
    return tmp_path_factory.mktemp("up") / "data"


def run_input(run_id: str) -> dict[str, object]:
    message = {"id": "m1", "role": "user", "content": "hello"}
    return {
        "threadId": run_id,
        "runId": run_id,
        "messages": [message],
        "tools": [],
        "context": [],
        "state": {},
        "forwardedProps": {},
    }


async def stream(running: Running, agent: str, run_id: str) -> AsyncIterator[dict[str, Any]]:
    """The events of a run, as they come."""
    async with (
        httpx2.AsyncClient(trust_env=False, timeout=60) as client,
        client.stream(
            "POST",
            f"{running.ready['url']}/agui{agent}?project={running.ready['project_id']}",
            json=run_input(run_id),
            headers={"authorization": f"Bearer {running.ready['api_key']}"},
        ) as answer,
    ):
        assert answer.status_code == 200, await answer.aread()
        async for line in answer.aiter_lines():
            if line.startswith("data: "):
                yield json.loads(line.removeprefix("data: "))


@pytest.mark.promise("HOME-02", "HOME-03", "HOME-04")
async def test_the_first_start_makes_an_account_and_runs_the_demo_agent_and_the_second_finds_both(
    data: Path, tmp_path: Path
) -> None:
    async with up(data, cwd=tmp_path, measured=True) as first:
        assert set(first.ready) == {"url", "mcp_url", "agui_url", "api_key", "project_id", "pid"}
        assert first.ready["pid"] == first.process.pid
        projects = (await first.call("list_projects"))["result"]["structuredContent"]["projects"]
        assert [project["id"] for project in projects] == [first.ready["project_id"]]
        events = [event async for event in stream(first, "/demo", "demo-1")]
        called = [event["toolCallName"] for event in events if event["type"] == "TOOL_CALL_START"]
        assert called == ["create_project", "list_projects"]
        assert events[-1]["type"] == "RUN_FINISHED"
        stopped = await first.end()
    assert stopped.code == 0
    assert stopped.out == ""
    for secret in ("api_key", "root_secret", "postgres.json"):
        assert (data / secret).stat().st_mode & 0o777 == 0o600
    assert (data / "api_key").read_text().strip() == first.ready["api_key"]
    assert first.ready["api_key"] not in stopped.err
    async with up(data, cwd=tmp_path) as second:
        assert second.ready["api_key"] == first.ready["api_key"]
        assert second.ready["project_id"] == first.ready["project_id"]
        projects = (await second.call("list_projects"))["result"]["structuredContent"]["projects"]
        assert len(projects) == 2


@pytest.mark.promise("HOME-03")
async def test_without_a_terminal_the_text_names_the_key_file_and_never_the_key(data: Path, tmp_path: Path) -> None:
    process = await spawn("up", "--port", "0", "--no-detect", "--data", data, cwd=tmp_path)
    assert process.stdout is not None
    said = ""
    try:
        async with asyncio.timeout(60):
            while "Stop with Ctrl-C." not in said:
                line = (await process.stdout.readline()).decode()
                assert line, (await ended(process)).err
                said += line
    finally:
        process.terminate()
        stopped = await ended(process)
    key = (data / "api_key").read_text().strip()
    assert key not in said + stopped.err
    shown = f'"Authorization: Bearer $(cat {data}/api_key)"'
    assert "claude mcp add --transport http innkeeper http://127.0.0.1:" in said
    assert said.count(shown) == 2
    configurations = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    assert [list(configuration) for configuration in configurations] == [["mcpServers"], ["servers"]]
    assert configurations[1]["servers"]["innkeeper"]["type"] == "http"
    curl = next(line for line in said.splitlines() if line.strip().startswith("curl "))
    assert "/agui/demo" in curl
    assert "[" in stopped.err
    assert "stopped" in stopped.err


@pytest.mark.promise("HOME-05")
async def test_a_second_up_on_the_same_data_says_so_and_exits_2(data: Path, tmp_path: Path) -> None:
    async with up(data, cwd=tmp_path) as first:
        second = await run("up", "--port", "0", "--data", data, cwd=tmp_path)
        assert second.code == 2
        assert f"is in use by another Innkeeper (process {first.process.pid})" in second.err
        await first.call("list_projects")


@pytest.mark.promise("HOME-05")
async def test_a_stop_signal_lets_a_running_stream_end_and_then_stops_everything(data: Path, tmp_path: Path) -> None:
    async with scripted_model() as model:
        environ = {
            "INNKEEPER_MODEL": "openai-chat:scripted",
            "OPENAI_BASE_URL": model.base_url,
            "OPENAI_API_KEY": "k" * 20,
        }
        gate = Gate()
        model.script(Turn("Good ", gate, "night."))
        async with up(data, cwd=tmp_path, environ=environ) as running:
            below = descendants(running.process.pid)
            assert below
            events = stream(running, "", "drain")
            await anext(events)
            async with asyncio.timeout(60):
                await gate.reached.wait()
            running.process.send_signal(signal.SIGTERM)

            async def refuses_newcomers() -> bool:
                try:
                    async with httpx2.AsyncClient(trust_env=False, timeout=60) as client:
                        await client.get(f"{running.ready['url']}/healthz")
                except httpx2.HTTPError:
                    return True
                return False

            await eventually(refuses_newcomers)
            gate.open()
            rest = [event async for event in events]
            assert rest[-1]["type"] == "RUN_FINISHED"
            assert "".join(event.get("delta", "") for event in rest).endswith("night.")
            stopped = await ended(running.process)
    assert stopped.code == 0
    assert not [pid for pid in below if is_alive(pid)]


@pytest.mark.promise("HOME-05", "RUN-05")
async def test_a_run_that_does_not_end_in_time_goes_on_at_the_next_start_and_a_second_signal_waits_for_nothing(
    data: Path, tmp_path: Path
) -> None:
    async with scripted_model() as model:
        environ = {
            "INNKEEPER_MODEL": "openai-chat:scripted",
            "OPENAI_BASE_URL": model.base_url,
            "OPENAI_API_KEY": "k" * 20,
            "INNKEEPER_DRAIN_SECONDS": "0.2",
        }
        model.script(Turn("Never ", Gate(), "ends."))
        async with up(data, cwd=tmp_path, environ=environ) as running:
            events = stream(running, "", "bound")
            await anext(events)
            await model.requested()
            running.process.send_signal(signal.SIGTERM)
            rest = [event["type"] async for event in events]
            assert not {"RUN_ERROR", "RUN_FINISHED"} & set(rest)
            assert (await ended(running.process)).code == 0
        model.script(Turn("Now it does."), Turn("Never ", Gate(), "ends."))
        environ["INNKEEPER_DRAIN_SECONDS"] = "600"
        async with up(data, cwd=tmp_path, environ=environ) as running:
            again = [event async for event in stream(running, "", "bound")]
            assert again[-1]["outcome"] == {"type": "success"}
            below = descendants(running.process.pid)
            events = stream(running, "", "urgent")
            await anext(events)
            await model.requested(3)
            running.process.send_signal(signal.SIGINT)
            running.process.send_signal(signal.SIGTERM)
            await events.aclose()  # type: ignore[attr-defined]  # an async generator
            stopped = await ended(running.process)
            assert stopped.code == 130
            assert "Traceback" not in stopped.err
            assert not [pid for pid in below if is_alive(pid)]


@pytest.mark.promise("HOME-05")
async def test_kill_9_leaves_no_orphan_and_the_next_start_works_and_starts_a_killed_postgres_again(
    data: Path, tmp_path: Path
) -> None:
    async with up(data, cwd=tmp_path) as running:
        below = descendants(running.process.pid)
        assert len(below) > 1
        running.process.kill()
        await running.process.wait()

        async def all_gone() -> bool:
            return not any(is_alive(pid) for pid in below)

        await eventually(all_gone)
    async with up(data, cwd=tmp_path) as again:
        await again.call("list_projects")
        place = Path(json.loads((data / "postgres.json").read_text())["place"])
        server = int((place / "postgres" / "postmaster.pid").read_text().split()[0])
        os.kill(server, signal.SIGKILL)

        async def answers_again() -> bool:
            with contextlib.suppress(httpx2.HTTPStatusError):
                answer = await again.call("list_projects")
                return not is_alive(server) and not answer["result"].get("isError")
            return False

        await eventually(answers_again, 30)
        stopped = await again.end()
    assert stopped.code == 0
    assert "PostgreSQL went away: killed by signal 9" in stopped.err
    assert "PostgreSQL answers again" in stopped.err


@pytest.mark.promise("HOME-05")
async def test_a_signal_during_the_start_stops_what_was_started(data: Path, tmp_path: Path) -> None:
    process = await spawn("up", "--port", "0", "--no-detect", "--data", data, cwd=tmp_path)
    assert process.stderr is not None
    async with asyncio.timeout(60):
        while b"starting PostgreSQL" not in await process.stderr.readline():
            assert process.returncode is None
    below = descendants(process.pid)
    process.send_signal(signal.SIGINT)
    stopped = await ended(process)
    assert stopped.code == 130
    assert "Traceback" not in stopped.err
    assert not [pid for pid in below if is_alive(pid)]


@pytest.mark.promise("HOME-02")
async def test_the_first_account_is_made_once_even_if_the_start_before_was_killed_half_way(
    urls: DatabaseUrls, owner: asyncpg.Connection[asyncpg.Record], tmp_path: Path
) -> None:
    data = DataDirectory(tmp_path)
    written = new_token()
    data.api_key.write_text(written + "\n")  # killed after the file, before the row
    first = await ensure_first_account(urls.owner, data)
    assert first[0] == written
    assert await ensure_first_account(urls.owner, data) == first
    counts = await owner.fetchrow(
        "SELECT (SELECT count(*) FROM users), (SELECT count(*) FROM projects), (SELECT count(*) FROM credentials)"
    )
    assert tuple(counts or ()) == (1, 1, 1)


@pytest.mark.promise("HOME-02")
async def test_up_on_a_database_of_its_own_migrates_it_and_serves_as_the_application_role(
    empty_urls: DatabaseUrls, tmp_path: Path
) -> None:
    environ = {
        "DATABASE_URL": empty_urls.app,
        "DATABASE_OWNER_URL": empty_urls.owner,
        "DATABASE_OPS_URL": empty_urls.ops,
    }
    async with up(tmp_path / "data", cwd=tmp_path, environ=environ) as running:
        projects = (await running.call("list_projects"))["result"]["structuredContent"]["projects"]
        assert [project["id"] for project in projects] == [running.ready["project_id"]]
        names = [Path(f"/proc/{pid}/exe").readlink().name for pid in descendants(running.process.pid)]
        assert "postgres" not in names


@pytest.mark.promise("HOME-06")
async def test_up_says_what_it_needs_when_the_url_is_the_application_role_or_the_roles_belong_to_another(
    urls: DatabaseUrls, tmp_path: Path
) -> None:
    alone = await run("up", "--port", "0", "--data", "d", cwd=tmp_path, environ={"DATABASE_URL": urls.app})
    assert alone.code == 2
    assert "'innkeeper up' also needs DATABASE_OWNER_URL" in alone.err
    taken = await run("up", "--port", "0", "--data", "d", cwd=tmp_path, environ={"DATABASE_URL": urls.owner})
    assert taken.code == 2
    assert "exists already, made by another installation" in taken.err
