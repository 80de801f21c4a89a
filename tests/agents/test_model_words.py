"""What only the words of an answer say, and words that no model should say: the run ends with its own code at once."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.agents.inn import body, inn, run, user
from tests.agents.test_model_faults import WORDS, Wire, said, sends
from tests.conftest import DatabaseUrls, Owner, Tenant
from tests.fakes.raw_server import Asked, Send, answer, raw_server

pytestmark = pytest.mark.promise("RUN-10")


def refuses(status: int, text: Any) -> Wire:
    """``text``: the body, or the message of one in OpenAI's form."""
    refusal = text if isinstance(text, dict | list) else {"error": {"message": f"{text} sk-LEAK", "code": None}}

    async def wire(send: Send) -> None:
        await send(answer(json.dumps(refusal).encode(), status=f"{status} Whatever"))

    return wire


def calls(**call: Any) -> Wire:
    function = {"name": "list_projects", "arguments": call.pop("arguments", "{}")}
    call = {"index": 0, "id": "call", "type": "function", "function": function, **call}
    return sends(said(role="assistant", tool_calls=[call]), said(finish="tool_calls"), b"data: [DONE]\n\n")


def uses(tokens: Any) -> Wire:
    usage = {"prompt_tokens": tokens, "completion_tokens": tokens, "total_tokens": tokens}
    counted = json.dumps({"id": "c", "object": "chat.completion.chunk", "created": 0, "choices": [], "usage": usage})
    return sends(said("Hello"), said(finish="stop"), f"data: {counted}\n\n".encode())


OVERFLOWS: tuple[tuple[int, Any], ...] = (
    (400, "The decoder prompt (length 5000) is longer than the maximum model length of 4096."),  # vLLM
    (400, {"object": "error", "message": "The input (5000 tokens) is longer than the model's context length (4096)."}),
    (400, "the request exceeds the available context size"),  # llama.cpp
    (500, "the input length exceeds the context length"),  # Ollama
    (400, {"error": "Trying to keep the first 9000 tokens when context the overflows. ... context length of 4096"}),
    (413, "Request too large for model `llama` on tokens per minute (TPM): Limit 6000, Requested 9000"),  # Groq
    (400, "Prompt contains 40000 tokens, too large for model with 32768 maximum context length"),  # Mistral
    (422, {"error": "Input validation error: `inputs` must have less than 4096 tokens. Given: 5000"}),  # TGI
    (422, "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4097."),  # Together
    (400, [{"error": {"message": "The input token count (12) exceeds the maximum number of tokens allowed (10)."}}]),
    (400, {"type": "error", "error": {"message": "prompt is too long: 203456 tokens > 200000 maximum"}}),  # Anthropic
    (400, {"code": "x", "error": "This model's maximum prompt length is 131072 but the request contains 200000."}),
    (400, {"message": "too many tokens: total number of tokens in the prompt cannot exceed 4081"}),  # Cohere
    (400, {"message": "Input is too long for requested model."}),  # Bedrock
    (400, "Range of input length should be [1, 30720]"),  # Qwen
    (400, "Your request exceeded model token limit: 8192"),  # Moonshot
    (400, "litellm.ContextWindowExceededError: OpenAIException"),
    (413, {}),
)
REFUSALS = (
    (400, "The response was filtered due to Azure OpenAI's content management policy.", "model_content_filtered"),
    (400, "Content Exists Risk", "model_content_filtered"),  # DeepSeek
    (400, "API key not valid. Please pass a valid API key.", "model_auth_failed"),  # Gemini
    (400, "Invalid value for 'temperature'", "model_request_rejected"),
    (405, "Method not allowed", "model_request_rejected"),
)
NESTED = b'data: {"choices": ' + b"[" * 100_000 + b"\n\n"
ANSWERS: tuple[tuple[Wire, str], ...] = (
    *((refuses(status, text), "model_context_overflow") for status, text in OVERFLOWS),
    *((refuses(status, text), code) for status, text, code in REFUSALS),
    # Ids of calls name what is kept of them.
    (calls(id="a\0b"), "run_loop_detected"),
    (calls(id="a\ud800"), "run_loop_detected"),
    (calls(id=None), "run_loop_detected"),
    (calls(id="call_" + "".join(map(str, range(2000)))), "run_loop_detected"),
    (calls(id="call#2"), "run_loop_detected"),
    (calls(arguments='{"a":' + "[" * 5000 + "]" * 5000 + "}"), "run_loop_detected"),
    (calls(arguments="{no JSON"), "run_loop_detected"),
    (sends(said("Half"), NESTED), "model_bad_response"),
    (uses(10**400), "RUN_FINISHED"),
    (uses(2**62), "RUN_FINISHED"),
)


@pytest.mark.parametrize("whose", ["operator", "tenant"])
async def test_whatever_a_model_says_the_run_ends_and_its_thread_goes_on(
    urls: DatabaseUrls, tenant: Tenant, owner: Owner, whose: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(_asked: Asked, send: Send) -> None:
        await current(send)

    async with raw_server(handler) as server, inn(urls, model_url=server.url("/v1")) as house:
        if whose == "tenant":
            await owner.execute("UPDATE projects SET model = 'm', base_url = $1", server.url("/v1"))
        for number, (wire, code) in enumerate(ANSWERS):
            current = wire
            stream = await run(house, tenant.token, body(user("Hello"), thread=str(number)))
            assert (number, stream.last.get("code", stream.last["type"])) == (number, code)
            assert b"LEAK" not in stream.raw
            current = sends(WORDS)
            assert (await run(house, tenant.token, body(user("And now?"), thread=str(number)))).text == "Hello"
    rows = await owner.fetch("SELECT error_code, input_tokens FROM runs WHERE status = 'running'")
    assert rows == []
    assert "an answer of a model cannot be read" in caplog.messages


def responds(*events: dict[str, Any]) -> Wire:
    """A stream of the Responses API."""
    numbered = [{**event, "sequence_number": number} for number, event in enumerate(events)]
    return sends(*(f"event: {one['type']}\ndata: {json.dumps(one)}\n\n".encode() for one in numbered))


def response(kind: str, status: str = "in_progress") -> dict[str, Any]:
    about = {"id": "r", "object": "response", "created_at": 0, "model": "m", "output": [], "tools": []}
    settings = {"parallel_tool_calls": True, "tool_choice": "auto", "status": status}
    return {"type": f"response.{kind}", "response": about | settings}


CALLED = {"type": "function_call", "id": "f", "call_id": "a\0b", "name": "list_projects", "arguments": "{}"}
SPOKEN: tuple[dict[str, Any], ...] = (
    {"type": "response.output_item.added", "output_index": 0, "item": {"id": "i", "type": "message", "content": []}},
    {"type": "response.output_text.delta", "item_id": "i", "output_index": 0, "content_index": 0, "delta": "Hello"},
)


async def test_a_stream_of_the_responses_api_has_to_begin_and_to_end(urls: DatabaseUrls, tenant: Tenant) -> None:
    whole = responds(response("created"), *SPOKEN, response("completed", "completed"))
    cases = (
        (responds(response("created"), *SPOKEN), "model_bad_response", "Hello", 1),
        (responds(response("created")), "model_bad_response", "", 1),
        (
            responds(response("created"), {"type": "response.output_item.added", "output_index": 0, "item": CALLED}),
            *("model_bad_response", "", 1),
        ),
        (responds({"type": "response.of_tomorrow"}, response("created"), *SPOKEN), "model_bad_response", "", 3),
        (whole, "RUN_FINISHED", "Hello", 1),
    )

    async def handler(_asked: Asked, send: Send) -> None:
        await current(send)

    async with (
        raw_server(handler) as server,
        inn(urls, model_url=server.url("/v1"), default="openai:m", model_key="k") as house,
    ):
        for wire, code, text, requests in cases:
            current = wire
            server.asked.clear()
            stream = await run(house, tenant.token, body(user("Hello"), thread="t"))
            assert (stream.last.get("code", stream.last["type"]), stream.text) == (code, text)
            assert len(server.asked) == requests
