"""Innkeeper's own MCP tools as the agent's toolset: what the run's grant may see, called as that grant.

One instance serves every run of a process. It holds no caller: each listing and each call takes the grant from the run
it is made for. It is an ``MCPToolset`` given to the agent at construction, so a durability backend journals its calls.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections import OrderedDict
from dataclasses import replace
from typing import Any, Final, Self

from pydantic_ai import RunContext, ToolDefinition
from pydantic_ai.exceptions import ApprovalRequired, ToolFailed
from pydantic_ai.mcp import MCPToolset
from pydantic_ai.messages import BinaryContent, ToolReturn
from pydantic_ai.toolsets.abstract import ToolsetTool
from pydantic_core import to_json

from agents.call_arguments import ARGUMENTS
from agents.deps import RunDeps
from agents.fixed_schema import Fixed
from agents.house_mcp import CallRefusedError, HouseMCP
from db.principal import Principal

TOOLSET_ID: Final = "innkeeper"
LISTINGS: Final = 512
LONGEST_KEY: Final = 255
TRUST_META: Final = "innkeeper/trust"
ERROR_META: Final = "innkeeper/error"
STRUCTURED: Final = "structured"
"""The key in a tool return's metadata under which programs find the same as data."""
BEGIN_RUNS: Final = frozenset({"start_run"})
"""The tools that start runs, which share the limits of the run that calls them."""
NEEDS_A_PERSON: Final = (
    "This call waits for a person's confirmation, which a run cannot give. Tell the user what you wanted to do."
)


def _of_the_run(_context: RunContext[RunDeps]) -> None:
    """Marks the toolset as one that only connects within a run; the grant itself goes with each call."""


class HouseTools(MCPToolset[RunDeps]):
    """The tools behind ``mcp``, listed once for each set of rights: the catalogue is the same all process long."""

    def __init__(self, mcp: HouseMCP) -> None:
        # The URL is never dialled: listing and calling are overridden below, everything else refuses outside a run.
        super().__init__("http://innkeeper.invalid/mcp", id=TOOLSET_ID, auth=_of_the_run)
        self._mcp = mcp
        self._listings: OrderedDict[tuple[object, ...], _Listing] = OrderedDict()

    async def for_run(self, ctx: RunContext[RunDeps]) -> Self:
        return self

    async def get_tools(self, ctx: RunContext[RunDeps]) -> dict[str, ToolsetTool[RunDeps]]:
        listing = await self._listing(ctx.deps.grant)
        if not listing.tools:
            # How often a tool may be tried again is the agent's to say: it is the same in every run.
            listing.tools = {one.name: self._tool(one, ctx) for one in listing.definitions}
        return dict(listing.tools)

    async def call_tool(
        self, name: str, tool_args: dict[str, Any], ctx: RunContext[RunDeps], tool: ToolsetTool[RunDeps]
    ) -> Any:
        key = _idempotency_key(ctx.deps.call_prefix, ctx.run_step, ctx.tool_call_id or name)
        if name in BEGIN_RUNS:
            await ctx.deps.meter.share()
        try:
            result = await self._mcp.call_tool(ctx.deps.grant, name, tool_args, key)
        except CallRefusedError as refused:
            raise ToolFailed(refused.message) from refused
        if result.get("resultType") == "input_required":
            raise ToolFailed(NEEDS_A_PERSON)
        value = _value(result)
        if result.get("isError"):
            approval = (result.get("_meta") or {}).get(ERROR_META, {}).get("approval")
            if approval is not None and not ctx.tool_call_approved:
                # Ends the run, once the other calls of this answer are made. Who resumes it is not asked again: an
                # answer that came too late is told to the model.
                raise ApprovalRequired({"approval": approval["id"]})
            raise ToolFailed(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str))
        if _untrusted(result):
            # Words of others reach a model only between the marks that the text has around them.
            text = "\n".join(block["text"] for block in result.get("content", ()) if block.get("type") == "text")
            return ToolReturn(text, metadata={STRUCTURED: value, **result["_meta"]})
        # As text, in the order of its fields: clients, the thread and the model are told the same.
        return ToolReturn(to_json(value).decode(), metadata={STRUCTURED: value}) if isinstance(value, dict) else value

    def _tool(self, definition: ToolDefinition, ctx: RunContext[RunDeps]) -> ToolsetTool[RunDeps]:
        return replace(self.tool_for_tool_def(definition, ctx=ctx), args_validator=ARGUMENTS)

    async def names(self, grant: Principal) -> set[str]:
        """The names of the tools that ``grant`` may call."""
        return {definition.name for definition in (await self._listing(grant)).definitions}

    async def readers(self, grant: Principal) -> frozenset[str]:
        """Those of them that only read."""
        return (await self._listing(grant)).readers

    async def _listing(self, grant: Principal) -> _Listing:
        rights = (
            grant.scopes,
            grant.read_only,
            grant.kind,
            grant.project_id,
            grant.end_user_id is not None,
            grant.run_depth,
            grant.tools,
        )
        found = self._listings.get(rights)
        if found is None:
            found = self._listings[rights] = _Listing(await self._definitions(grant))
            if len(self._listings) > LISTINGS:
                self._listings.popitem(last=False)
        self._listings.move_to_end(rights)
        return found

    async def _definitions(self, grant: Principal) -> list[ToolDefinition]:
        return [_definition(tool) for tool in await self._mcp.list_tools(grant) if _for_models(tool)]


class _Listing:
    """What one set of rights may call. ``tools`` are made for the first run that has them."""

    def __init__(self, definitions: list[ToolDefinition]) -> None:
        self.definitions = definitions
        self.readers = frozenset(one.name for one in definitions if _reads(one))
        self.tools: dict[str, ToolsetTool[RunDeps]] = {}


def _reads(definition: ToolDefinition) -> bool:
    return bool(((definition.metadata or {}).get("annotations") or {}).get("readOnlyHint"))


def _definition(tool: dict[str, Any]) -> ToolDefinition:
    return ToolDefinition(
        name=tool["name"],
        description=tool.get("description"),
        parameters_json_schema=Fixed(tool["inputSchema"]),
        metadata=Fixed({"annotations": tool.get("annotations")}),
        # Given here, it need not be written into a copy of each definition in each run.
        toolset_id=TOOLSET_ID,
    )


def _for_models(tool: dict[str, Any]) -> bool:
    """MCP Apps: a tool may be meant for a user interface only."""
    ui = (tool.get("_meta") or {}).get("ui")
    visibility = ui.get("visibility") if isinstance(ui, dict) else None
    return visibility is None or "model" in visibility


def _idempotency_key(prefix: str, step: int, call_id: str) -> str:
    """The step belongs to it because some models number their calls from zero in every answer."""
    key = f"{prefix}:{step}:{call_id}"
    if len(key) <= LONGEST_KEY and key.isascii() and key.isprintable():
        return key
    return f"{prefix}:{step}:{hashlib.sha256(call_id.encode('utf-8', 'replace')).hexdigest()}"


def _untrusted(result: dict[str, Any]) -> bool:
    """Whether the result says of itself that others wrote some of it."""
    label = (result.get("_meta") or {}).get(TRUST_META)
    return isinstance(label, dict) and bool(label.get("untrusted"))


def _value(result: dict[str, Any]) -> Any:
    structured = result.get("structuredContent")
    if structured is not None:
        return structured
    values = [_block(block) for block in result.get("content", ())]
    return values[0] if len(values) == 1 else values


def _block(block: dict[str, Any]) -> Any:
    match block.get("type"):
        case "text":
            return block["text"]
        case "image" | "audio":
            return BinaryContent(data=base64.b64decode(block["data"]), media_type=block["mimeType"])
        case "resource_link":
            return block["uri"]
        case _:
            return block
