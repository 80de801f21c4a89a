"""The ``show_component_*`` tools of a run. Calling one shows what the client has seen stream in: nothing is left to do
but to hold the props to their schema, and to tell the model."""

from __future__ import annotations

from typing import Any, Final

from pydantic_ai import RunContext, ToolDefinition
from pydantic_ai.exceptions import ToolFailed
from pydantic_ai.toolsets import AbstractToolset
from pydantic_ai.toolsets.abstract import ToolsetTool

from agents import journal, schemas
from agents.call_arguments import ARGUMENTS, RETRIES
from agents.component_offers import Component
from agents.deps import RunDeps
from agents.schemas import UnusableSchemaError

SHOWN: Final = "The user sees it now."


class ComponentTools(AbstractToolset[RunDeps]):
    """One serves every run of a process: which components there are is the run's."""

    @property
    def id(self) -> str:
        return "components"

    async def get_tools(self, ctx: RunContext[RunDeps]) -> dict[str, ToolsetTool[RunDeps]]:
        return {name: self._tool(component) for name, component in ctx.deps.components.items()}

    async def call_tool(
        self, name: str, tool_args: dict[str, Any], ctx: RunContext[RunDeps], tool: ToolsetTool[RunDeps]
    ) -> Any:
        component = ctx.deps.components[name]

        async def shown() -> str | None:
            return await schemas.in_turn(lambda: _wrong(component, tool_args))

        held = journal.held.get()
        step = (journal.TOOL, ctx.run_step, ctx.tool_call_id or name, shown)
        wrong = await (held.step(*step) if held is not None else shown())
        if wrong is not None:
            raise ToolFailed(wrong)
        return SHOWN

    def _tool(self, component: Component) -> ToolsetTool[RunDeps]:
        definition = ToolDefinition(
            name=component.tool,
            description=f"Show the user {component.name}. {component.description}".strip(),
            parameters_json_schema=component.props_schema,
        )
        return ToolsetTool(toolset=self, tool_def=definition, max_retries=RETRIES, args_validator=ARGUMENTS)


def _wrong(component: Component, props: dict[str, Any]) -> str | None:
    """What a model is told of props that do not fit."""
    try:
        found = schemas.faults(component.props_schema, props)
    except UnusableSchemaError as error:
        found = [f"the schema of its props cannot be used: {error}"]
    if not found:
        return None
    return f"{component.name} was not shown, its props do not fit: {'; '.join(found)}. Correct them and call it again."
