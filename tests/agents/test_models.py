"""Models as a run uses them: a static agent, model ids, a scripted OpenAI-compatible server on a real socket."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, field
from decimal import Decimal
from uuid import uuid4

import httpx2
import pytest
from pydantic_ai import Agent, RunContext
from pydantic_ai.capabilities import ResolveModelId
from pydantic_ai.messages import ModelResponse, TextPart
from pydantic_ai.usage import RequestUsage

from agents.model_errors import cost_of, map_model_error
from agents.model_ports import LocalEndpoint
from agents.model_spec import ModelSpec
from agents.models import ModelFactory
from db.errors import AppError
from tests.fakes.openai_server import ScriptedModel, scripted_model
from tests.fakes.outside import internet, reaching_loopback
from tests.fakes.passthrough import passthrough
from tests.fakes.script import MALFORMED, Gate, Hang, Reset, Status, ToolCall, Turn


@dataclass
class Deps:
    model_spec: ModelSpec
    called: list[tuple[str, str]] = field(default_factory=list)
    fallbacks: tuple[ModelSpec, ...] = ()


@pytest.fixture
async def model() -> AsyncIterator[ScriptedModel]:
    async with scripted_model() as scripted:
        yield scripted


@pytest.fixture
async def factory() -> AsyncIterator[ModelFactory]:
    async with aclosing(ModelFactory(max_retries=0, tenants=reaching_loopback())) as made:
        yield made


def agent_of(factory: ModelFactory) -> Agent[Deps, str]:
    by_id = ResolveModelId[Deps](lambda context, model_id: factory.of_run(context.deps, model_id))
    agent: Agent[Deps, str] = Agent(deps_type=Deps, capabilities=[by_id])

    @agent.tool
    def create_project(context: RunContext[Deps], name: str) -> str:
        context.deps.called.append(("create_project", name))
        return f"made {name}"

    return agent


async def run(factory: ModelFactory, spec: ModelSpec, prompt: str = "hello") -> str:
    spec = factory.effective(spec)
    result = await agent_of(factory).run(prompt, model=spec.model, deps=Deps(spec))
    return result.output


async def failure(factory: ModelFactory, spec: ModelSpec) -> AppError:
    """What a run of ``spec`` ends with, streamed as the engine streams it."""
    try:
        spec = factory.effective(spec)
        async with agent_of(factory).run_stream_events("hello", model=spec.model, deps=Deps(spec)) as events:
            async for _ in events:
                pass
    except Exception as error:  # noqa: BLE001 - whatever a run can end with is what is tested
        return map_model_error(error)
    raise AssertionError("the run did not fail")


@pytest.mark.promise("HOME-22")
@pytest.mark.parametrize("prefix", ["openai:", "openai-chat:", ""])
async def test_a_model_id_reaches_its_endpoint_with_the_tenants_key_and_tools(
    model: ScriptedModel, factory: ModelFactory, prefix: str
) -> None:
    spec = ModelSpec(f"{prefix}scripted", base_url=model.base_url, api_key="sk-tenant")
    prompt = json.dumps({"calls": [{"call": "create_project", "args": {"name": name}} for name in ("one", "two")]})

    deps = Deps(factory.effective(spec))
    result = await agent_of(factory).run(prompt, model=spec.model, deps=deps)

    assert sorted(deps.called) == [("create_project", "one"), ("create_project", "two")]
    assert result.output == "Done: made onemade two"
    assert result.usage.output_tokens > 0
    assert model.requests[0].path == ("/v1/responses" if prefix == "openai:" else "/v1/chat/completions")
    assert [request.tools for request in model.requests] == [["create_project"]] * 2
    assert {request.authorization for request in model.requests} == {"Bearer sk-tenant"}


@pytest.mark.promise("HOME-22")
@pytest.mark.parametrize("prefix", ["openai:", "openai-chat:"])
async def test_text_streams_piece_by_piece_and_reports_usage(
    model: ScriptedModel, factory: ModelFactory, prefix: str
) -> None:
    gate = Gate()
    model.script(Turn("first ", gate, "second", usage=(11, 7)))
    spec = factory.effective(ModelSpec(f"{prefix}scripted", base_url=model.base_url, api_key="k"))

    async with agent_of(factory).run_stream("hello", model=spec.model, deps=Deps(spec)) as stream:
        pieces = stream.stream_text(delta=True, debounce_by=None)
        first = await anext(pieces)
        assert gate.reached.is_set()
        gate.open()
        rest = [piece async for piece in pieces]

    assert (first, "".join(rest)) == ("first ", "second")
    assert (stream.usage.input_tokens, stream.usage.output_tokens) == (11, 7)


async def test_nothing_of_the_process_environment_reaches_an_endpoint(
    model: ScriptedModel, factory: ModelFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("API_KEY", "ORG_ID", "PROJECT_ID", "ADMIN_KEY"):
        monkeypatch.setenv(f"OPENAI_{name}", "secret-of-the-platform")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1/v1")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Platform: secret-of-the-platform")

    await run(factory, ModelSpec("scripted", base_url=model.base_url))

    assert "secret-of-the-platform" not in json.dumps(dict(model.requests[0].headers))
    assert model.requests[0].authorization == "Bearer no-key"
    with pytest.raises(AppError) as refused:
        await factory.resolve(ModelSpec("openai:gpt-5"))
    assert refused.value.code == "model_not_configured"


async def test_the_platforms_key_never_goes_to_a_tenants_base_url(model: ScriptedModel) -> None:
    async with aclosing(ModelFactory(platform_keys={"openai": "sk-platform"}, tenants=reaching_loopback())) as factory:
        await run(factory, ModelSpec("openai-chat:scripted", base_url=model.base_url))
        with pytest.raises(AppError) as refused:
            factory.effective(ModelSpec("openai:scripted", base_url=model.base_url, api_key=" "))

        assert model.requests[0].authorization == "Bearer no-key"
        assert refused.value.code == "model_not_configured"
        assert factory.effective(ModelSpec("openai:gpt-5")).api_key == "sk-platform"


@pytest.mark.promise("HOME-04")
async def test_without_any_model_a_run_says_how_to_get_one(factory: ModelFactory) -> None:
    with pytest.raises(AppError) as refused:
        factory.effective(ModelSpec())

    assert refused.value.code == "model_not_configured"
    assert refused.value.hint is not None
    assert all(way in refused.value.hint for way in ("OPENAI_API_KEY", "Ollama", '".[local]"'))


@pytest.mark.promise("HOME-04")
async def test_what_the_project_names_comes_before_the_default(model: ScriptedModel) -> None:
    default = ModelSpec("openai-chat:default", base_url=model.base_url, parameters={"temperature": 0.5})
    async with aclosing(ModelFactory(default=default, tenants=reaching_loopback())) as factory:
        await run(factory, ModelSpec("openai-chat:own", base_url=model.base_url))
        await run(factory, ModelSpec("", parameters={"max_tokens": 9}))

        own, by_default = (request.body for request in model.requests)
        assert (own["model"], "temperature" in own) == ("own", False)
        assert (by_default["model"], by_default["temperature"]) == ("default", 0.5)
        assert by_default.get("max_completion_tokens", by_default.get("max_tokens")) == 9


@pytest.mark.promise("HOME-04")
async def test_ollama_and_lm_studio_are_reached_where_they_were_found(model: ScriptedModel) -> None:
    async with aclosing(ModelFactory(endpoints={"ollama": model.base_url})) as factory:
        assert await run(factory, ModelSpec("ollama:llama3.2:3b"), "hi") == "You said: hi"
        assert model.requests[0].body["model"] == "llama3.2:3b"
        with pytest.raises(AppError) as refused:
            await factory.resolve(ModelSpec("lmstudio:qwen"))
        assert refused.value.code == "model_not_configured"


async def test_the_local_model_is_waited_for_and_is_offered_no_tools(model: ScriptedModel) -> None:
    class Local:
        async def ready(self, timeout: float) -> LocalEndpoint:
            return LocalEndpoint(model.base_url, "tiny", "local-key")

    async with aclosing(ModelFactory(default=ModelSpec("local"), local=Local())) as factory:
        assert await run(factory, ModelSpec(), "hi") == "You said: hi"

        request = model.requests[0]
        assert (request.tools, request.body["model"], request.authorization) == ([], "tiny", "Bearer local-key")


@pytest.mark.parametrize("model_id", ["anthropic:claude", "gpt-5", "openai:", "ollama: "])
async def test_an_unknown_provider_is_answered_with_what_is_supported(factory: ModelFactory, model_id: str) -> None:
    with pytest.raises(AppError) as refused:
        factory.effective(ModelSpec(model_id))

    assert refused.value.code == "model_not_supported"
    assert "openai:NAME" in (refused.value.hint or "")


@pytest.mark.parametrize(
    "base_url",
    ["file:///etc/passwd", "host.example/v1", "https://", "https://user:pw@host.example/v1", "https://host.example/?a=1",
     "http://[::1", "https://host.example:0/v1"],
)  # fmt: skip
async def test_a_base_url_that_is_no_plain_web_address_is_refused(factory: ModelFactory, base_url: str) -> None:
    with pytest.raises(AppError) as refused:
        factory.effective(ModelSpec("some-model", base_url=base_url))

    assert refused.value.code == "invalid_arguments"
    assert "pw" not in refused.value.message


async def test_wrong_parameters_are_all_named_at_once(factory: ModelFactory) -> None:
    wrong = {"temperature": 9, "extra_headers": {"Authorization": "x"}, "max_tokens": True, "top_p": 0.5}

    with pytest.raises(AppError) as refused:
        factory.effective(ModelSpec("some-model", base_url="https://host.example/v1", parameters=wrong))

    assert all(name in refused.value.message for name in ("temperature", "extra_headers", "max_tokens"))
    assert "top_p" not in refused.value.message


async def test_a_model_is_built_once_for_a_project_and_key(model: ScriptedModel, factory: ModelFactory) -> None:
    one, other = uuid4(), uuid4()
    spec = ModelSpec("m", base_url=model.base_url, api_key="a", project_id=one)

    built = await factory.resolve(spec)

    assert await factory.resolve(ModelSpec("m", model.base_url, "a", {}, one)) is built
    assert await factory.resolve(ModelSpec("m", model.base_url, "b", {}, one)) is not built
    assert await factory.resolve(ModelSpec("m", model.base_url, "a", {}, other)) is not built
    assert "'a'" not in repr(spec)


async def test_a_given_http_client_carries_the_requests_and_stays_open(model: ScriptedModel) -> None:
    async with httpx2.AsyncClient(headers={"x-guard": "yes"}, timeout=60) as client:
        factory = ModelFactory(default=ModelSpec("m", base_url=model.base_url), http_client=client)
        await run(factory, ModelSpec())
        await factory.aclose()
        assert not client.is_closed
    assert model.requests[0].headers["x-guard"] == "yes"


async def test_the_operators_models_are_reached_through_the_proxy_that_the_environment_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    heads: list[bytes] = []

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(proxy, "127.0.0.1", 0) as server:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        default = ModelSpec("m", base_url="http://model.invalid/v1")
        async with aclosing(ModelFactory(default=default)) as factory:
            assert (await failure(factory, ModelSpec())).code == "model_auth_failed"
    assert heads[0].startswith(b"POST http://model.invalid/v1/chat/completions ")


@pytest.mark.promise("GND-01")
async def test_a_tenants_base_url_goes_through_the_guard_and_the_operators_does_not(model: ScriptedModel) -> None:
    operators = ModelSpec("m", base_url=model.base_url)
    inside = model.base_url.replace("127.0.0.1", "inside.example")
    guard = internet({"inside.example": [["127.0.0.1"]]})
    async with aclosing(ModelFactory(default=operators, tenants=guard)) as factory:
        assert await run(factory, ModelSpec(), "hi") == "You said: hi"
        for base_url in (model.base_url, model.base_url.replace("127.0.0.1", "2130706433"), inside):
            assert (await failure(factory, ModelSpec("m", base_url=base_url))).code == "url_not_allowed"
        for named in ("ollama:m", "lmstudio:m", "openai-chat:m"):
            assert (await failure(factory, ModelSpec(named, base_url=inside))).code == "url_not_allowed"
    async with aclosing(ModelFactory(default=operators)) as factory:
        assert (await failure(factory, ModelSpec("m", base_url=inside))).code == "model_not_configured"
    assert len(model.requests) == 1


LEAK = "sk-LEAK http://10.0.0.1 another tenant's prompt"


def _fault(status: int, code: str | None = None, headers: dict[str, str] | None = None) -> Status:
    return Status(status, {"error": {"message": LEAK, "type": code, "code": code}}, headers or {})


@pytest.mark.promise("HOME-21")
@pytest.mark.parametrize(
    ("answer", "code", "retryable"),
    [
        (_fault(401), "model_auth_failed", False),
        (_fault(403), "model_auth_failed", False),
        (_fault(429, headers={"retry-after": "7"}), "model_rate_limited", True),
        (_fault(429, "insufficient_quota"), "model_quota_exceeded", False),
        (_fault(400, "context_length_exceeded"), "model_context_overflow", False),
        (_fault(400, "exceed_context_size_error"), "model_context_overflow", False),
        (_fault(404), "model_not_found", False),
        (_fault(400), "model_request_rejected", False),
        (_fault(500), "model_unavailable", True),
        (_fault(503), "model_unavailable", True),
        (Status(200, LEAK), "model_bad_response", True),
        (Turn("a", Reset()), "model_unavailable", True),
        (Turn("a", MALFORMED), "model_bad_response", True),
        (Turn(ToolCall("no_such_tool", {}), ToolCall("create_project", "{not json")), "model_bad_response", True),
    ],
)
async def test_a_models_failure_is_told_in_our_words(
    model: ScriptedModel, factory: ModelFactory, answer: Turn | Status, code: str, retryable: bool
) -> None:
    model.script(*[answer] * 4)

    error = await failure(factory, ModelSpec("m", base_url=model.base_url, api_key="sk-tenant"))

    assert (error.code, error.retryable) == (code, retryable)
    assert error.hint
    said = f"{error.message} {error.hint}"
    assert not any(word in said for word in ("LEAK", "10.0.0.1", "sk-tenant", "127.0.0.1", "prompt"))
    if isinstance(answer, Status) and answer.headers:
        assert error.retry_after == 7


async def test_a_silent_model_times_out_and_an_absent_one_is_unavailable(
    model: ScriptedModel, factory: ModelFactory
) -> None:
    model.script(Turn(Hang()))
    silent = ModelSpec("m", base_url=model.base_url, parameters={"timeout": 1})
    absent = ModelSpec("m", base_url=model.base_url.replace("127.0.0.1", "127.0.0.3"))

    assert (await failure(factory, silent)).code == "model_timeout"
    assert (await failure(factory, absent)).code == "model_unavailable"


async def test_an_error_of_our_own_passes_and_a_crash_says_nothing() -> None:
    own = AppError("x", 400, "m", "h")

    assert map_model_error(own) is own
    assert map_model_error(ValueError(LEAK)).code == "internal_error"
    assert "LEAK" not in map_model_error(ValueError(LEAK)).message


async def test_cost_is_known_for_openai_and_unknown_for_an_endpoint_of_ones_own() -> None:
    usage = RequestUsage(input_tokens=1_000_000, output_tokens=0)
    parts = [TextPart("hi")]

    priced = ModelResponse(parts=parts, usage=usage, model_name="gpt-4o", provider_name="openai")
    unknown = ModelResponse(parts=parts, usage=usage, model_name="gpt-4o", provider_name="compatible")

    assert cost_of(priced) == Decimal("2.5")
    assert cost_of(unknown) is None


@pytest.mark.promise("HOME-51")
def test_providers_are_imported_only_when_a_model_is_first_used() -> None:
    program = (
        "import sys, asyncio\n"
        "from agents.model_spec import ModelSpec\n"
        "from agents.models import ModelFactory\n"
        "import agents.model_errors\n"
        "f = ModelFactory(platform_keys={'openai': 'k'})\n"
        "f.effective(ModelSpec('openai:gpt-5'))\n"
        "early = {'pydantic_ai', 'openai', 'httpx2', 'genai_prices'} & set(sys.modules)\n"
        "assert not early, early\n"
        "async def main():\n"
        "    await f.warm()\n"
        "    assert {'pydantic_ai', 'openai'} <= set(sys.modules)\n"
        "    assert not {'anthropic', 'groq', 'mistralai', 'google.genai'} & set(sys.modules)\n"
        "    await f.aclose()\n"
        "asyncio.run(main())\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True, timeout=120)


async def test_the_pass_through_changes_no_byte_of_a_stream(model: ScriptedModel) -> None:
    body = {"messages": [{"role": "user", "content": json.dumps({"tokens": 20})}], "stream": True}
    async with passthrough(model.base_url) as base_url, httpx2.AsyncClient(timeout=60) as client:
        through = await client.post(f"{base_url}/chat/completions", json=body)
        direct = await client.post(f"{model.base_url}/chat/completions", json=body)

    def texts(answer: httpx2.Response) -> list[str]:
        lines = [line[6:] for line in answer.text.splitlines() if line.startswith("data: {")]
        return [json.loads(line)["choices"][0]["delta"].get("content", "") for line in lines]

    assert texts(through) == texts(direct)
    assert "".join(texts(through)).split() == [f"word{number}" for number in range(20)]
