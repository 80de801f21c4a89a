"""The fixture tools of the official suite that talk while they work, ask back, or change what is listed."""

from __future__ import annotations

import warnings
from collections.abc import Awaitable, Callable
from typing import Any

from mcp.server.subscriptions import InMemorySubscriptionBus, PromptsListChanged, ToolsListChanged
from mcp.shared.exceptions import MCPError, NoBackChannelError
from mcp.shared.message import ServerMessageMetadata
from mcp_types import (
    MISSING_REQUIRED_CLIENT_CAPABILITY,
    CreateMessageRequest,
    CreateMessageRequestParams,
    CreateMessageResult,
    ElicitRequest,
    ElicitRequestFormParams,
    ElicitResult,
    SamplingMessage,
    TextContent,
)

from server.mcp.context import Context
from tests.conformance.fixture_results import (
    DEFAULTS_FORM,
    ENUMS_FORM,
    SIMPLE,
    USER_FORM,
    Result,
    answer,
    asks,
    elicitation,
    roots,
    sampling,
    text,
)

Fixture = Callable[[Context, dict[str, Any]], Awaitable[Result]]


async def log(ctx: Context, said: str) -> None:
    with warnings.catch_warnings():
        # Deprecated by the specification, and still what two scored scenarios are about.
        warnings.simplefilter("ignore")
        sending = ctx.session.send_log_message("info", said, related_request_id=ctx.request_id)
    await sending


async def with_logging(ctx: Context, given: dict[str, Any]) -> Result:
    for said in ("Tool execution started", "Tool processing data", "Tool execution completed"):
        await log(ctx, said)
    return answer(text("Tool with logging executed successfully"))


async def with_progress(ctx: Context, given: dict[str, Any]) -> Result:
    for done in (0, 50, 100):
        await ctx.session.report_progress(done, 100, f"Completed step {done} of 100")
    return answer(text("Done."))


async def streaming_elicitation(ctx: Context, given: dict[str, Any]) -> Result:
    await ctx.session.report_progress(1)
    return asks(user_name=elicitation("What is your name?", name="string"))


async def missing_capability(ctx: Context, given: dict[str, Any]) -> Result:
    capabilities = ctx.session.client_capabilities
    if capabilities is None or capabilities.sampling is None:
        needed: Result = {"requiredCapabilities": {"sampling": {}}}
        raise MCPError(MISSING_REQUIRED_CLIENT_CAPABILITY, "This tool needs a client that samples.", needed)
    return answer(text("The client samples."))


async def ask_form(ctx: Context, message: str, form: Result) -> Result:
    """An elicitation in the handshake era: a request of ours on the stream of theirs."""
    request = ElicitRequest(params=ElicitRequestFormParams(message=message, requested_schema=form))
    try:
        said = await ctx.session.send_request(
            request, ElicitResult, metadata=ServerMessageMetadata(related_request_id=ctx.request_id)
        )
    except NoBackChannelError:
        return answer(text("This connection cannot be asked anything."), is_error=True)
    return answer(text(f"Elicitation completed: action={said.action}, content={said.content}"))


async def ask_user(ctx: Context, given: dict[str, Any]) -> Result:
    return await ask_form(ctx, given["message"], USER_FORM)


async def ask_with_defaults(ctx: Context, given: dict[str, Any]) -> Result:
    return await ask_form(ctx, "Please provide user information", DEFAULTS_FORM)


async def ask_with_enums(ctx: Context, given: dict[str, Any]) -> Result:
    return await ask_form(ctx, "Please select", ENUMS_FORM)


async def ask_model(ctx: Context, given: dict[str, Any]) -> Result:
    message = SamplingMessage(role="user", content=TextContent(type="text", text=given["prompt"]))
    request = CreateMessageRequest(params=CreateMessageRequestParams(messages=[message], max_tokens=100))
    try:
        said = await ctx.session.send_request(
            request, CreateMessageResult, metadata=ServerMessageMetadata(related_request_id=ctx.request_id)
        )
    except NoBackChannelError:
        return answer(text("This connection cannot be asked anything."), is_error=True)
    return answer(text(f"LLM response: {said.content}"))


def responses(ctx: Context, *keys: str) -> dict[str, Any] | None:
    """What the client answered to all of ``keys``; ``None`` while any is missing."""
    given = (ctx.params or {}).get("inputResponses")
    if not isinstance(given, dict) or not all(isinstance(given.get(key), dict) for key in keys):
        return None
    return {key: given[key] for key in keys}


async def wants_name(ctx: Context, given: dict[str, Any]) -> Result:
    said = responses(ctx, "user_name")
    if said is None:
        return asks(user_name=elicitation("What is your name?", name="string"))
    return answer(text(f"Hello, {said['user_name']['content']['name']}!"))


async def wants_sample(ctx: Context, given: dict[str, Any]) -> Result:
    said = responses(ctx, "capital_question")
    if said is None:
        return asks(capital_question=sampling("What is the capital of France?"))
    return answer(text(str(said["capital_question"]["content"])))


async def wants_roots(ctx: Context, given: dict[str, Any]) -> Result:
    said = responses(ctx, "client_roots")
    if said is None:
        return asks(client_roots=roots())
    return answer(text(str(said["client_roots"]["roots"])))


async def keeps_state(ctx: Context, given: dict[str, Any]) -> Result:
    """The state comes back opened and verified, or the call does not come back at all."""
    state = (ctx.params or {}).get("requestState")
    if responses(ctx, "confirm") is None or state != "asked":
        return asks("asked", confirm=elicitation("Please confirm", ok="boolean"))
    return answer(text("state-ok"))


async def wants_much(ctx: Context, given: dict[str, Any]) -> Result:
    if responses(ctx, "user_name", "greeting", "client_roots") is None:
        return asks(
            "asked",
            user_name=elicitation("What is your name?", name="string"),
            greeting=sampling("Generate a greeting", 50),
            client_roots=roots(),
        )
    return answer(text("Thank you."))


async def asks_twice(ctx: Context, given: dict[str, Any]) -> Result:
    state = (ctx.params or {}).get("requestState")
    if state == "first" and responses(ctx, "step1") is not None:
        return asks("second", step2=elicitation("Step 2: What is your favorite color?", color="string"))
    if state == "second" and responses(ctx, "step2") is not None:
        return answer(text("Thank you."))
    return asks("first", step1=elicitation("Step 1: What is your name?", name="string"))


async def asks_what_can_be_answered(ctx: Context, given: dict[str, Any]) -> Result:
    can = ctx.session.client_capabilities
    possible: Result = {}
    if can is not None and can.sampling is not None:
        possible["greeting"] = sampling("Generate a greeting", 50)
    if can is not None and can.elicitation is not None:
        possible["user_name"] = elicitation("What is your name?", name="string")
    return asks(**possible) if possible else answer(text("Nothing can be asked here."))


def fixture_tools(bus: InMemorySubscriptionBus) -> dict[str, Fixture]:
    """Every fixture tool by name. ``bus`` carries the changes that two of them make believe."""

    async def tools_change(ctx: Context, given: dict[str, Any]) -> Result:
        await bus.publish(ToolsListChanged())
        return answer(text("The list of tools has changed."))

    async def prompts_change(ctx: Context, given: dict[str, Any]) -> Result:
        await bus.publish(PromptsListChanged())
        return answer(text("The list of prompts has changed."))

    def always(result: Result) -> Fixture:
        async def same(ctx: Context, given: dict[str, Any]) -> Result:
            return result

        return same

    return {
        **{name: always(result) for name, result in SIMPLE.items()},
        "test_tool_with_logging": with_logging,
        "test_logging_tool": with_logging,
        "test_tool_with_progress": with_progress,
        "test_streaming_elicitation": streaming_elicitation,
        "test_missing_capability": missing_capability,
        "test_sampling": ask_model,
        "test_elicitation": ask_user,
        "test_elicitation_sep1034_defaults": ask_with_defaults,
        "test_elicitation_sep1330_enums": ask_with_enums,
        "test_input_required_result_elicitation": wants_name,
        "test_input_required_result_sampling": wants_sample,
        "test_input_required_result_list_roots": wants_roots,
        "test_input_required_result_request_state": keeps_state,
        "test_input_required_result_tampered_state": keeps_state,
        "test_input_required_result_multiple_inputs": wants_much,
        "test_input_required_result_multi_round": asks_twice,
        "test_input_required_result_capabilities": asks_what_can_be_answered,
        "test_trigger_tool_change": tools_change,
        "test_trigger_prompt_change": prompts_change,
    }
