"""Models that keep what they make of a tool with its schema, where that is :class:`agents.fixed_schema.Fixed`."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace

from pydantic_ai import ToolDefinition
from pydantic_ai.models import Model, ModelRequestParameters

from agents.fixed_schema import Fixed
from db.aside import aside


class KnowsTools(Model):
    """A model that customises each fixed schema once."""

    async def meet(self, parameters: ModelRequestParameters) -> None:
        """Customise those that are new beside the event loop: they may be long."""
        kind = self.profile.get("json_schema_transformer")
        fixed = [tool for tool in parameters.function_tools if isinstance(tool.parameters_json_schema, Fixed)]
        if any(_known(tool, kind) is None for tool in fixed):
            await aside(lambda: self.customize_request_parameters(parameters))

    def customize_request_parameters(self, model_request_parameters: ModelRequestParameters) -> ModelRequestParameters:
        parameters = model_request_parameters
        kind = self.profile.get("json_schema_transformer")
        known = [_known(tool, kind) for tool in parameters.function_tools]
        new = [tool for tool, found in zip(parameters.function_tools, known, strict=True) if found is None]
        customised = super().customize_request_parameters(replace(parameters, function_tools=new))
        made = iter(customised.function_tools)
        tools = [
            found or _kept(tool, next(made), kind) for tool, found in zip(parameters.function_tools, known, strict=True)
        ]
        return replace(customised, function_tools=tools)


def _known(tool: ToolDefinition, kind: Hashable) -> ToolDefinition | None:
    schema = tool.parameters_json_schema
    found = schema.customised.get((kind, tool.strict)) if isinstance(schema, Fixed) else None
    return found[1] if found is not None and (found[0] is tool or found[0] == tool) else None


def _kept(tool: ToolDefinition, customised: ToolDefinition, kind: Hashable) -> ToolDefinition:
    schema = tool.parameters_json_schema
    if isinstance(schema, Fixed):
        customised = replace(customised, parameters_json_schema=Fixed(customised.parameters_json_schema))
        schema.customised[kind, tool.strict] = tool, customised
    return customised
