"""Pieces of a model's stream are joined before its SDK sees them, and nothing else of the stream is touched."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from itertools import groupby
from typing import Any

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart

from agents.joined_deltas import LONGEST_PIECE, Joiner
from agents.model_spec import ModelSpec
from agents.models import ModelFactory
from agents.openai_models import http_client
from agents.paced_stream import AT_ONCE, paced
from tests.fakes.openai_server import ScriptedModel, scripted_model
from tests.fakes.script import Gate, Reset, ToolCall, Turn


def chat(delta: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"id": "c", "model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": None}]} | more


def arguments(text: str, index: int = 0, **more: Any) -> dict[str, Any]:
    return chat({"tool_calls": [{"index": index, "function": {"arguments": text}, **more}]})


def output(text: str, item: str) -> dict[str, Any]:
    place = {"item_id": item, "output_index": 0, "content_index": 0}
    return {"type": "response.output_text.delta", **place, "delta": text, "logprobs": []}


WORDS = st.text(st.characters(exclude_characters="<>", exclude_categories=["Cs"]), min_size=1, max_size=5)
PIECES = st.one_of(
    st.builds(lambda text: chat({"content": text}), WORDS),
    st.builds(lambda text: chat({"role": "assistant", "content": text, "refusal": None}), WORDS),
    st.builds(lambda text: chat({"reasoning_content": text}), WORDS),
    st.builds(arguments, WORDS, st.integers(0, 1)),
    st.builds(output, WORDS, st.sampled_from("ab")),
)
OTHERS = st.one_of(
    st.just(chat({"role": "assistant", "content": ""})),
    st.just(chat({"content": "<think>"})),
    st.just(chat({"content": "a", "reasoning_content": "b"})),
    st.just(chat({}, usage={"total_tokens": 3})),
    st.just({"choices": []}),
    st.just({"error": {"message": "no"}}),
    st.builds(lambda text: arguments(text, id="call_1"), WORDS),
    st.builds(lambda text: {"type": "response.output_text.done", "text": text}, WORDS),
)


@pytest.fixture(params=["the operator's models", "behind the guard or a proxy"])
async def client(request: pytest.FixtureRequest) -> AsyncIterator[httpx2.AsyncClient]:
    """Either way to a model."""
    own = request.param == "the operator's models"
    async with http_client(trust_env=False) if own else paced(httpx2.AsyncClient(trust_env=False, timeout=60)) as found:
        yield found


def frame(event: dict[str, Any]) -> bytes:
    head = f"event: {event['type']}\n" if "type" in event else ""
    return f"{head}data: {json.dumps(event)}\n\n".encode()


def meaning(frames: list[bytes]) -> list[Any]:
    """What a stream says, whatever the sizes of its pieces: others as their bytes, pieces by what they are of."""
    said = []
    for data in frames:
        event = json.loads(data.rpartition(b"data: ")[2])
        said.append(_piece(event) or (data, ""))
    return [(of, "".join(text for _, text in group)) for of, group in groupby(said, key=lambda one: one[0])]


def _piece(event: dict[str, Any]) -> tuple[Any, str] | None:
    if event.get("type") == "response.output_text.delta":
        return (event["item_id"], event["delta"])
    choices = event.get("choices")
    if not choices or "usage" in event:
        return None
    delta = {name: value for name, value in choices[0]["delta"].items() if value and name != "role"}
    if len(delta) != 1:
        return None
    ((name, value),) = delta.items()
    if name == "tool_calls":
        return None if "id" in value[0] else ((name, value[0]["index"]), value[0]["function"]["arguments"])
    return None if "<" in value else (name, value)


@given(st.lists(st.one_of(PIECES, PIECES, OTHERS), max_size=30), st.lists(st.integers(1, 400), min_size=1), st.data())
def test_a_stream_says_the_same_however_it_is_cut_and_joined(
    events: list[dict[str, Any]], cuts: list[int], data: st.DataObject
) -> None:
    frames = [frame(event) for event in events]
    whole, joiner, passed = b"".join(frames), Joiner(), b""
    at, number = 0, 0
    while at < len(whole):
        length = cuts[number % len(cuts)]
        passed += joiner.feed(whole[at : at + length])
        at, number = at + length, number + 1
    passed += joiner.end()
    joined = [one + b"\n\n" for one in passed.split(b"\n\n")[:-1]]
    assert meaning(joined) == meaning(frames)
    assert len(joined) <= len(frames)


def test_pieces_that_come_together_become_one() -> None:
    joiner = Joiner()
    events = [chat({"content": "a"}), chat({"content": "b"}), chat({"content": "c"})]
    (line,) = joiner.feed(b"".join(map(frame, events))).split(b"\n\n")[:-1]
    assert json.loads(line.removeprefix(b"data: ")) == chat({"content": "abc"})
    assert joiner.flowing


@pytest.mark.parametrize(
    "data",
    [
        b'data: {"choices": [{"delta": {"content"\n\n',
        b"data: [DONE]\n\n",
        b": keep-alive\n\n",
        b"data: \xff\xfe\n\n",
        b'data: {"a": NaN}\n\n',
        b"data: [1, 2]\n\n",
        b'data: "text"\n\n',
        b"\n\n\n\n",
        b'data: {"choices": [7]}\n\ndata: {"choices": [{"delta": []}]}\n\n',
        b'data: {"choices": [{"delta": {"tool_calls": [{"function": {"arguments": {}}}]}}]}\n\n',
        b'data: {"type": ["response.output_text.delta"]}\n\n',
    ],
)
def test_what_is_no_piece_passes_as_it_came(data: bytes) -> None:
    joiner = Joiner()
    assert joiner.feed(data) + joiner.end() == data
    assert not joiner.flowing


def test_a_line_without_an_end_is_not_gathered() -> None:
    joiner = Joiner()
    sent = [b"data: " + b"x" * LONGEST_PIECE, b"y" * 10, frame(chat({"content": "a"})) * 2]
    assert [joiner.feed(data) for data in sent] == sent


def test_streams_with_other_line_ends_pass_as_they_come() -> None:
    joiner = Joiner()
    sent = frame(chat({"content": "a"})).replace(b"\n", b"\r\n") * 2
    assert joiner.feed(sent[:30]) + joiner.feed(sent[30:]) == sent


def test_a_byte_order_mark_before_the_first_event_is_passed_over() -> None:
    for sent in (frame(chat({"content": "a"})) * 2, b": hi\r\n\r\n", b"\xef\xbb\xbfdata: {}\n\n", b"\xef"):
        for cut in range(6):
            joiner, data = Joiner(), b"\xef\xbb\xbf" + sent
            said = joiner.feed(data[:cut]) + joiner.feed(data[cut:]) + joiner.end()
            assert said.replace(b" ", b"") == Joiner().feed(sent).replace(b" ", b"") or said == sent


@pytest.mark.promise("RUN-21")
async def test_a_model_answers_the_same_through_a_client_that_joins() -> None:
    words = [f"w{number} " for number in range(400)]
    long = {"text": "x" * 2_000}
    async with scripted_model() as server:
        for provider in ("openai-chat", "openai"):
            server.script(Turn(*words, ToolCall("note", long, id="call_1"), ToolCall("note", long, id="call_2")))
            answer = await asked(server, provider)
            texts = [part.content for part in answer.parts if isinstance(part, TextPart)]
            calls = [part.args_as_dict() for part in answer.parts if isinstance(part, ToolCallPart)]
            assert ("".join(texts), calls) == ("".join(words), [long, long])


async def asked(server: ScriptedModel, provider: str) -> ModelResponse:
    spec = ModelSpec(f"{provider}:scripted", base_url=server.base_url, api_key="sk-test", trusted=True)
    factory = ModelFactory(default=spec)
    agent = Agent(await factory.resolve(spec))
    heard: list[ModelMessage] = []

    @agent.tool_plain
    def note(text: str) -> str:
        return "noted"

    try:
        async with agent.run_stream_events("Go.") as events:
            async for event in events:
                if event.event_kind == "agent_run_result":
                    heard = event.result.new_messages()
    finally:
        await factory.aclose()
    return next(message for message in heard if isinstance(message, ModelResponse))


@pytest.mark.promise("RUN-20")
async def test_first_pieces_are_not_held_back_and_the_stream_goes_on_after_a_pause_of_the_model(
    client: httpx2.AsyncClient,
) -> None:
    gates = [Gate() for _ in range(AT_ONCE + 4)]
    steps = [step for number, gate in enumerate(gates) for step in (f"w{number} ", gate)]
    async with scripted_model() as server:
        server.script(Turn(*steps))
        async with streamed(client, server) as pieces:
            for number, gate in enumerate(gates):
                async with asyncio.timeout(60):
                    while f"w{number} ".encode() not in await anext(pieces):
                        pass
                gate.open()


@pytest.mark.promise("RUN-22")
async def test_all_that_came_while_the_socket_rested_is_in_the_next_piece(client: httpx2.AsyncClient) -> None:
    gates = [Gate() for _ in range(AT_ONCE + 2)]
    async with scripted_model() as server:
        server.script(Turn(*(step for gate in gates for step in ("word ", gate)), "first ", "second ", Gate()))
        async with streamed(client, server) as pieces:
            for gate in gates:
                while b"word " not in await anext(pieces):
                    pass
                gate.open()
            piece = await anext(pieces)
            assert b"first second " in piece


async def test_a_connection_that_breaks_off_says_what_came_and_then_fails(client: httpx2.AsyncClient) -> None:
    async with scripted_model() as server:
        server.script(Turn("one ", "two ", Reset()))
        heard: list[bytes] = []
        with pytest.raises(httpx2.RemoteProtocolError):
            await listen(client, server, heard)
        assert b"one " in b"".join(heard)
        assert b"two " in b"".join(heard)
        server.script(Turn("again"))
        async with streamed(client, server) as pieces:
            assert b"again" in b"".join([data async for data in pieces])


async def test_who_reads_on_beside_its_first_reader_gets_the_rest_and_then_nothing(client: httpx2.AsyncClient) -> None:
    async with scripted_model() as server:
        server.script(Turn("one ", gate := Gate(), "two "))
        body = {"model": "scripted", "stream": True, "messages": [{"role": "user", "content": "Go."}]}
        async with client.stream("POST", f"{server.base_url}/chat/completions", json=body) as response:
            assert isinstance(response.stream, httpx2.AsyncByteStream)
            first = aiter(response.stream)
            while b"one " not in await anext(first):
                pass
            gate.open()
            assert b"two " in b"".join([data async for data in response.stream])
            assert [data async for data in first] == []
            assert [data async for data in response.stream] == []


async def test_who_leaves_in_the_middle_leaves_nothing_behind(client: httpx2.AsyncClient) -> None:
    async with scripted_model() as server:
        server.script(Turn("one ", Gate(), "two "), Turn("after"))
        async with streamed(client, server) as pieces:
            await anext(pieces)
        async with asyncio.timeout(60):
            await server.disconnected.wait()
        assert not [task for task in asyncio.all_tasks() if task.get_name() == "model-stream"]
        async with streamed(client, server) as pieces:
            assert b"after" in b"".join([data async for data in pieces])


async def listen(client: httpx2.AsyncClient, server: ScriptedModel, heard: list[bytes]) -> None:
    async with streamed(client, server) as pieces:
        async for data in pieces:
            heard.append(data)  # noqa: PERF401  what came before a fault is to be seen


class streamed:  # noqa: N801  reads like the function it stands for
    """The pieces of one streamed chat completion."""

    def __init__(self, client: httpx2.AsyncClient, server: ScriptedModel) -> None:
        body = {"model": "scripted", "stream": True, "messages": [{"role": "user", "content": "Go."}]}
        self._streaming = client.stream("POST", f"{server.base_url}/chat/completions", json=body)

    async def __aenter__(self) -> AsyncIterator[bytes]:
        return (await self._streaming.__aenter__()).aiter_raw()

    async def __aexit__(self, *error: Any) -> None:
        await self._streaming.__aexit__(*error)
