"""The tools that a run's client offers and carries out itself, as the agent's toolset."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from ag_ui.core import Tool
from pydantic_ai import RunContext
from pydantic_ai.tools import ToolDefinition
from pydantic_ai.toolsets import ExternalToolset
from pydantic_ai.toolsets.abstract import ToolsetTool

from agents.call_arguments import ARGUMENTS, RETRIES
from agents.deps import RunDeps
from agents.fixed_schema import Fixed
from db.errors import invalid

ANYTHING: Final = {"type": "object", "properties": {}, "additionalProperties": True}


class ClientTools(ExternalToolset[RunDeps]):
    """A call whose arguments are no JSON object (RFC 8259) never waits for the client: the model is told, and may call
    again, as with the house's own tools."""

    async def get_tools(self, ctx: RunContext[RunDeps]) -> dict[str, ToolsetTool[RunDeps]]:
        tools = await super().get_tools(ctx)
        return {name: replace(tool, max_retries=RETRIES, args_validator=ARGUMENTS) for name, tool in tools.items()}


def offered(tools: Sequence[Tool], taken: set[str]) -> ClientTools:
    """``taken``: the names of the run's other tools. Raises AppError for one of these, and for one said twice."""
    names = set(taken)
    definitions = []
    for tool in tools:
        if tool.name in names:
            raise invalid(f"The tool name '{tool.name}' is taken.", "Rename the client's tool.", "tool_name_taken")
        names.add(tool.name)
        schema = Fixed(tool.parameters if isinstance(tool.parameters, dict) else ANYTHING)
        definitions.append(ToolDefinition(name=tool.name, parameters_json_schema=schema, description=tool.description))
    return ClientTools(definitions)
