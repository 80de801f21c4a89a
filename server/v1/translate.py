"""A run as ``/v1`` asks for it, in the words of the engine: an AG-UI 1.0 ``RunAgentInput``."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Sequence
from typing import Any, Final

from agents.component_offers import PREFIX
from db.errors import AppError, invalid
from db.ids import uuid7
from server.v1.asked import Component, NamedTool, Resource, ResourceContent, Run, TextContent, ToolResult
from server.v1.json_schema import current

KINDS: Final = ("image", "audio", "video")
TEXTS: Final = ("application/json", "application/xml", "application/yaml")


def run_input(asked: Run, thread: str, run: str) -> bytes:
    """``thread`` and ``run``: what the engine is to call them. Raises AppError for what no run can be asked for."""
    _refuse(asked)
    ours: dict[str, Any] = {"messagesSnapshot": "never"}
    if asked.available_components:
        ours["components"] = [_component(one) for one in asked.available_components]
    if asked.message.metadata is not None:
        ours["about"] = asked.message.metadata
    parameters = {"maxTokens": asked.max_tokens, "temperature": asked.temperature, "toolChoice": _choice(asked)}
    ours["parameters"] = {name: value for name, value in parameters.items() if value is not None}
    body = {
        "threadId": thread,
        "runId": run,
        "messages": [*_results(asked), *_said(asked)],
        "tools": [
            {"name": tool.name, "description": tool.description, "parameters": tool.input_schema}
            for tool in asked.tools or ()
        ],
        "context": list(_context(asked.message.additional_context)),
        "forwardedProps": {"innkeeper": ours, "runMetadata": asked.run_metadata},
    }
    return json.dumps(body).encode()


def _component(offered: Component) -> dict[str, Any]:
    said = {"name": offered.name, "description": offered.description, "propsSchema": current(offered.props_schema)}
    return said if offered.state_schema is None else {**said, "stateSchema": current(offered.state_schema)}


def _refuse(asked: Run) -> None:
    if asked.model is not None:
        raise invalid(
            "Which model answers is said by the agent, not by the request.",
            "Leave 'model' out, or name an agent that has the model: ?agent=NAME.",
            "model_not_chosen_here",
        )


def _choice(asked: Run) -> str | dict[str, str] | None:
    """Results of calls are answered freely: clients send the choice again with them, and would never come to an end."""
    choice = asked.tool_choice
    if choice in (None, "auto", "none"):
        return None if choice is None else str(choice)
    if asked.goes_on:
        return None
    names = {tool.name: tool.name for tool in asked.tools or ()}
    names |= {one.name: f"{PREFIX}{one.name}" for one in asked.available_components or ()}
    wanted = choice.name if isinstance(choice, NamedTool) else None
    if not names or (wanted is not None and wanted not in {*names, *names.values()}):
        raise invalid(
            "toolChoice names no tool or component of this request.",
            "Name one that comes with it, or leave toolChoice out: an agent chooses among all of its tools itself.",
            "tool_choice_unknown",
        )
    return "required" if wanted is None else {"name": names.get(wanted, wanted)}


def _results(asked: Run) -> Iterator[dict[str, Any]]:
    for block in asked.message.content:
        if isinstance(block, ToolResult):
            text = "\n".join(_text_of(one) for one in block.content)
            said = {"content": "", "error": text} if block.is_error else {"content": text}
            yield {"id": str(uuid7()), "role": "tool", "toolCallId": block.tool_use_id, **said}


def _said(asked: Run) -> Iterator[dict[str, Any]]:
    blocks = [block for block in asked.message.content if not isinstance(block, ToolResult)]
    if blocks:
        yield {"id": str(uuid7()), "role": "user", "content": content(blocks)}


def content(blocks: Sequence[TextContent | ResourceContent]) -> str | list[dict[str, Any]]:
    """What is said, as the content of an AG-UI message."""
    if len(blocks) == 1 and isinstance(blocks[0], TextContent):
        return blocks[0].text
    return [_part(block) for block in blocks]


def _part(block: TextContent | ResourceContent) -> dict[str, Any]:
    if isinstance(block, TextContent):
        return {"type": "text", "text": block.text}
    resource = block.resource
    mime = resource.mime_type or "application/octet-stream"
    kind = mime.partition("/")[0]
    if resource.text is not None:
        value = base64.b64encode(resource.text.encode("utf-8", "replace")).decode()
        return {
            "type": "document",
            "source": {"type": "data", "value": value, "mimeType": mime if is_text(mime) else "text/plain"},
        }
    if resource.blob is not None:
        source = {"type": "data", "value": resource.blob, "mimeType": mime}
    elif resource.uri is not None:
        source = {"type": "url", "value": resource.uri, "mimeType": mime}
    else:
        raise _empty()
    return {"type": kind if kind in KINDS else "document", "source": source}


def is_text(mime: str) -> bool:
    """Whether models are told content of this kind as text."""
    return mime.startswith("text/") or mime in TEXTS or mime.endswith(("+json", "+xml"))


def _text_of(block: TextContent | ResourceContent) -> str:
    """Of a tool's result, of which models read text alone."""
    if isinstance(block, TextContent):
        return block.text
    resource: Resource = block.resource
    if resource.text is not None:
        return resource.text
    raise invalid("A tool result here may hold text only.", "Describe the result in text.", "content_not_supported")


def _context(given: Any) -> Iterator[dict[str, str]]:
    """What the application adds for the model: each member of an object for itself."""
    if given is None:
        return
    for name, value in given.items() if isinstance(given, dict) else [("context", given)]:
        yield {"description": name, "value": value if isinstance(value, str) else json.dumps(value)}


def _empty() -> AppError:
    return invalid("A resource has neither text, blob nor uri.", "Send one of them.", "content_not_supported")
