"""JSON Schemas of the house's own tools, which are the same in every run: nobody edits them, so nobody copies them, and
what a model makes of one is kept with it."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace
from typing import Any, Self

from pydantic_ai import ToolDefinition
from pydantic_ai.models import Model, ModelRequestParameters


class Fixed(dict[str, Any]):
    """A JSON object that is never edited in place: a copy of it is the same object. ``customised``: what models of each
    kind make of it, with whether they may hold tools to it strictly."""

    def __init__(self, value: dict[str, Any]) -> None:
        super().__init__(value)
        self.customised: dict[Hashable, tuple[Fixed, bool | None]] = {}

    def __copy__(self) -> Self:
        return self


class KnowsTools(Model):
    """A model that customises each fixed schema once."""

    def customize_request_parameters(self, model_request_parameters: ModelRequestParameters) -> ModelRequestParameters:
        parameters = model_request_parameters
        kind = self.profile.get("json_schema_transformer")
        new = [tool for tool in parameters.function_tools if _known(tool, kind) is None]
        customised = super().customize_request_parameters(replace(parameters, function_tools=new))
        made = iter(customised.function_tools)
        tools = [_known(tool, kind) or _kept(tool, next(made), kind) for tool in parameters.function_tools]
        return replace(customised, function_tools=tools)


def _known(tool: ToolDefinition, kind: Hashable) -> ToolDefinition | None:
    schema = tool.parameters_json_schema
    found = schema.customised.get((kind, tool.strict)) if isinstance(schema, Fixed) else None
    return None if found is None else replace(tool, parameters_json_schema=found[0], strict=found[1])


def _kept(tool: ToolDefinition, customised: ToolDefinition, kind: Hashable) -> ToolDefinition:
    schema = tool.parameters_json_schema
    if isinstance(schema, Fixed):
        made = Fixed(customised.parameters_json_schema)
        schema.customised[kind, tool.strict] = made, customised.strict
        return replace(customised, parameters_json_schema=made)
    return customised
