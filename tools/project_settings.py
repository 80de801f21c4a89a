"""The settings that a project's agents run with, as tools take them, and how long ones are shown."""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal, TypeAlias
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from db import model_ids
from db.errors import AppError
from tools.pages import part
from tools.result import NOTE_BYTES

SHORT: Final = 100
"""Characters of instructions that fit any answer, however they are written."""
FENCES: Final = 200
"""What the marks around words of others add."""
_NAMESPACE: Final = re.compile(r"[a-z0-9](?:[a-z0-9_-]{0,38}[a-z0-9])?")
LOOSER: Final = {
    "never": "act without asking anybody",
    "when_new": "ask a person only the first time for each target",
}
"""What a looser policy than ``always`` means."""


class ModelParameters(BaseModel):
    """Sent with each model request; timeout: seconds."""

    model_config = ConfigDict(extra="forbid")

    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    max_tokens: int | None = Field(default=None, ge=1)
    seed: int | None = None
    thinking: bool | Literal["minimal", "low", "medium", "high"] | None = None
    parallel_tool_calls: bool | None = None
    timeout: float | None = Field(default=None, ge=1, le=600)


def _http_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query or parts.fragment:
        raise ValueError("must be an http(s) URL without user, query or fragment")
    return url.rstrip("/")


def _text(text: str) -> str:
    if "\x00" in text:
        raise ValueError("must not contain a NUL character")
    return text


def _namespace(text: str) -> str:
    if not _NAMESPACE.fullmatch(text) or text == "shadcn":
        raise ValueError("must be 1 to 40 lower-case letters, digits, - and _, and not shadcn, which is taken")
    return text


Name: TypeAlias = Annotated[
    str, Field(min_length=1, max_length=80, pattern=r"\S", description="What people call it."), AfterValidator(_text)
]
Instructions: TypeAlias = Annotated[
    str, Field(max_length=20_000, description="System prompt of the project's agents."), AfterValidator(_text)
]
Model: TypeAlias = Annotated[
    str,
    Field(
        min_length=1,
        max_length=200,
        description="openai:NAME, openai-chat:NAME, ollama:NAME, local; with base_url any NAME.",
    ),
    AfterValidator(_text),
]
BaseUrl: TypeAlias = Annotated[
    str,
    Field(max_length=500, description="OpenAI-compatible endpoint."),
    AfterValidator(_http_url),
    AfterValidator(_text),
]
InputTokens: TypeAlias = Annotated[
    int, Field(ge=256, le=10_000_000, description="Most input tokens of a model request.")
]
ToolCalls: TypeAlias = Annotated[int, Field(ge=0, le=1000, description="Most tool calls of a run.")]
PromptOverride: TypeAlias = Annotated[bool, Field(description="Whether clients may send their own system prompt.")]
Approvals: TypeAlias = Annotated[
    Literal["always", "when_new", "never"],
    Field(description="When a person must allow destructive or outward calls. Loosening it asks a person."),
]
RegistryPublic: TypeAlias = Annotated[bool, Field(description="Anybody may install components.")]
RegistryNamespace: TypeAlias = Annotated[str, Field(description="Of @namespace/component."), AfterValidator(_namespace)]
RetentionDays: TypeAlias = Annotated[int, Field(ge=1, le=3650, description="Delete threads unused for so long.")]


def check_model(model: str, base_url: str | None, at: str = "model") -> None:
    """Refuse at once what runs would be refused later. ``at``: the argument that it is of."""
    try:
        model_ids.parse(model, base_url)
    except AppError as refused:
        refused.details = {"arguments": [{"do": "change", "at": at}]}
        raise


def instructions_part(
    whole: BaseModel, instructions: str, cursor: str | None, max_bytes: int
) -> tuple[str, str | None]:
    """As much of the ``instructions`` of ``whole``, from where ``cursor`` says, as an answer may hold, and the cursor
    of the rest; ``None`` at the end."""
    if cursor is None and len(instructions) < SHORT:
        return instructions, None
    frame = len(whole.model_copy(update={"instructions": ""}).model_dump_json().encode()) + FENCES + NOTE_BYTES
    return part(instructions, cursor, max(max_bytes - frame, SHORT))
