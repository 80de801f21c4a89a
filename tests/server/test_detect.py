"""Finding model servers on this machine, against answers as they and others give them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from starlette.types import Receive, Scope, Send

from server.integrations.detect import HOSTS, Detected, detect_local_servers
from tests.fakes.openai_server import scripted_model
from tests.fakes.sockets import on_socket
from tests.machine import Stopwatch, within

OLLAMA = {
    "models": [
        {"name": "nomic-embed-text:latest", "details": {"family": "nomic-bert"}},
        {"name": "mine:latest", "details": {"family": "bert"}},
        {"name": "kimi-k2:1t-cloud", "details": {"family": "kimi"}},
        {"name": "vectors", "capabilities": ["embedding"]},
        {"name": "llama3.2:3b", "details": {"family": "llama"}, "capabilities": ["completion", "tools"]},
        {"name": "qwen3:8b", "details": {"family": "qwen3"}},
    ]
}
LM_STUDIO = {"object": "list", "data": [{"id": "text-embedding-nomic"}, {"id": "qwen2.5-7b-instruct"}]}


@asynccontextmanager
async def answering(answers: Mapping[str, bytes], status: int = 200) -> AsyncIterator[str]:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        known = scope["path"] in answers
        await send({"type": "http.response.start", "status": status if known else 404, "headers": []})
        await send({"type": "http.response.body", "body": answers.get(scope["path"], b"")})

    async with on_socket(app) as url:
        yield url


@pytest.mark.promise("HOME-04")
async def test_ollama_and_lm_studio_are_found_with_a_chat_model_that_runs_here() -> None:
    async with (
        answering({"/api/tags": json.dumps(OLLAMA).encode()}) as ollama,
        answering({"/v1/models": json.dumps(LM_STUDIO).encode()}) as lm_studio,
    ):
        found = await detect_local_servers(5, {"ollama": ollama, "lmstudio": lm_studio})

    assert found == [
        Detected("ollama", f"{ollama}/v1", ("llama3.2:3b", "qwen3:8b")),
        Detected("lmstudio", f"{lm_studio}/v1", ("qwen2.5-7b-instruct",)),
    ]
    assert [server.model_id for server in found] == ["ollama:llama3.2:3b", "lmstudio:qwen2.5-7b-instruct"]
    assert found[1].title == "LM Studio"


@pytest.mark.parametrize(
    "body",
    [b"<html>a router", b"[]", b"null", b'{"models": 3, "data": 3}', b'{"models": [7], "data": [7]}', b"\xff\xfe",
     b'{"models": [{"name": 1}], "data": [{"id": null}]}', b'{"models": [], "data": []}',
     b'{"models": [{"name": "bge-m3"}], "data": [{"id": "all-minilm"}]}', b" " * (1 << 21)],
)  # fmt: skip
async def test_whatever_else_answers_there_is_ignored(body: bytes) -> None:
    async with answering({"/api/tags": body, "/v1/models": body}) as url:
        assert await detect_local_servers(5, {"ollama": url, "lmstudio": url}) == []


async def test_errors_and_closed_ports_are_ignored() -> None:
    body = json.dumps(OLLAMA | LM_STUDIO).encode()
    async with answering({"/api/tags": body, "/v1/models": body}, status=401) as url:
        assert await detect_local_servers(5, {"ollama": url, "lmstudio": "http://127.0.0.1:1"}) == []


async def test_a_server_that_says_nothing_costs_only_the_timeout() -> None:
    async def silent(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while (await receive())["type"] != "http.disconnect":
            pass

    async with AsyncExitStack() as opened:
        url = await opened.enter_async_context(on_socket(silent))

        async def finding_none() -> float:
            watch = Stopwatch()
            assert await detect_local_servers(0.2, {"ollama": url, "lmstudio": url}) == []
            return watch.seconds()

        await within(2.0, finding_none)


async def test_an_openai_compatible_server_is_found_where_lm_studio_listens() -> None:
    async with scripted_model() as model:
        found = await detect_local_servers(5, {"lmstudio": model.base_url.removesuffix("/v1")})

    assert [server.model_id for server in found] == ["lmstudio:scripted"]


def test_only_loopback_is_asked() -> None:
    assert all(host.startswith("http://127.0.0.1:") for host in HOSTS.values())
