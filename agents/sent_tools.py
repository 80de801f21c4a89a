"""The house's own tools as chat completions are sent them: written once, not in every request."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final, cast

from openai._utils._json import openapi_dumps
from openai.types.chat import ChatCompletionToolParam
from pydantic_ai import ToolDefinition
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.settings import ModelSettings

from agents.fixed_schema import Fixed
from agents.tool_schemas import KnowsTools

AT_ONCE: Final = 64 * 1024
"""Bytes of a message that are written before others get their turn."""


class SentTool(dict[str, Any]):
    """A tool as chat completions are sent it, with its JSON."""

    def __init__(self, tool: Mapping[str, Any]) -> None:
        super().__init__(tool)
        self.json = openapi_dumps(tool)


class SendsTools(KnowsTools, OpenAIChatModel):
    """Chat completions that write each fixed schema once."""

    def _map_tool_definition(self, f: ToolDefinition, model_settings: ModelSettings) -> ChatCompletionToolParam:
        schema = f.parameters_json_schema
        if not isinstance(schema, Fixed):
            return super()._map_tool_definition(f, model_settings)
        kind = self.profile.get("openai_supports_strict_tool_definition", True)
        made_of, sent = schema.sent.get(kind, (None, None))
        if sent is None or made_of is not f:
            sent = SentTool(super()._map_tool_definition(f, model_settings))
            schema.sent[kind] = f, sent
        return cast(ChatCompletionToolParam, sent)


async def written(body: Mapping[str, object]) -> bytes:
    """The JSON of a request, with the messages and the tools behind all else."""
    lists = {name: value for name, value in body.items() if name in ("messages", "tools") and isinstance(value, list)}
    members = [openapi_dumps({name: value for name, value in body.items() if name not in lists})[1:-1]]
    for name, value in lists.items():
        members.append(b'"%b":[%b]' % (name.encode(), b",".join([await _dumped(one) for one in value])))
    return b"{%b}" % b",".join(filter(None, members))


async def _dumped(value: object) -> bytes:
    """So that others get their turn behind a long one, such as a picture."""
    if isinstance(value, SentTool):
        return value.json
    text = openapi_dumps(value)
    if len(text) > AT_ONCE:
        await asyncio.sleep(0)
    return text
