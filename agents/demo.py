"""The agent ``demo``: a script, not a model, which really calls our tools: the whole path without a key."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable
from typing import Any, Final

from pydantic_ai.messages import ModelMessage, ModelRequest, ToolReturnPart, UserPromptPart
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, DeltaToolCalls, FunctionModel

from agents.house_tools import STRUCTURED
from db.scopes import Scope

MODEL_ID: Final = "innkeeper:demo"
LABEL: Final = "scripted, not a model"
PROJECT_NAME: Final = "Demo project"
SCRIPT: Final = (
    ("create_project", {"name": PROJECT_NAME}, Scope.projects_write),
    ("list_projects", {"limit": 10}, Scope.projects_read),
)


def model() -> FunctionModel:
    return FunctionModel(stream_function=_say, model_name="demo")


async def _say(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str | DeltaToolCalls]:
    results = _results(messages)
    offered = {tool.name for tool in info.function_tools}
    possible = [step for step in SCRIPT if step[0] in offered]
    if not results:
        for word in _words(f"I am the demo agent ({LABEL}). " + _plan([step[0] for step in possible])):
            yield word
    done = len(results)
    if done < len(possible):
        name, arguments, _scope = possible[done]
        yield {1: DeltaToolCall(name=name, json_args=json.dumps(arguments), tool_call_id=f"demo_{done + 1}_{name}")}
        return
    for word in _words(_summary(results, offered)):
        yield word


def _results(messages: list[ModelMessage]) -> list[ToolReturnPart]:
    """What the tools returned since the user last spoke."""
    results: list[ToolReturnPart] = []
    for message in messages:
        if isinstance(message, ModelRequest):
            for part in message.parts:
                if isinstance(part, UserPromptPart):
                    results.clear()
                elif isinstance(part, ToolReturnPart):
                    results.append(part)
    return results


def _plan(names: list[str]) -> str:
    if not names:
        return ""
    return f"I call {' and '.join(names)} over MCP, as you.\n"


def _summary(results: Iterable[ToolReturnPart], offered: set[str]) -> str:
    lines = [_line(result) for result in results]
    for name, _arguments, scope in SCRIPT:
        if name not in offered:
            lines.append(
                f"I cannot see {name}: this key lacks the scope {scope}, is read-only, or is bound to one project."
            )
    return "\n".join(lines)


def _line(result: ToolReturnPart) -> str:
    content: Any = (result.metadata or {}).get(STRUCTURED, result.content)
    if result.outcome != "success" or not isinstance(content, dict):
        return f"{result.tool_name} failed: {result.model_response_str()}"
    if result.tool_name == "create_project":
        return f"create_project: made '{content.get('name')}' ({content.get('id')})."
    names = [project.get("name", "") for project in content.get("projects", [])]
    return f"list_projects: {len(names)} on the first page: {', '.join(names)}."


def _words(text: str) -> Iterable[str]:
    return (f"{word} " for word in text.split(" "))
