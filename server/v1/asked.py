"""What is asked of ``/v1``: bodies as npm @tambo-ai/typescript-sdk 0.96 sends them, checked. Further fields are passed
over, as they are by servers of that wire."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.alias_generators import to_camel
from pydantic_core import to_json

from db.aside import SMALL, aside
from db.errors import invalid

LARGEST_METADATA = 65_536
MOST_FAULTS = 1_000
"""To list more takes longer than to find them."""
"""Bytes as JSON."""
TOOL_NAME = "^[a-zA-Z0-9_-]{1,64}$"
"""As models' providers take them."""
Name = Annotated[str, Field(min_length=1, max_length=255)]
Model = TypeVar("Model", bound=BaseModel)


class Asked(BaseModel):
    model_config = ConfigDict(extra="ignore", alias_generator=to_camel, validate_by_alias=True, validate_by_name=False)


class TextContent(Asked):
    type: Literal["text"]
    text: str


class Resource(Asked):
    uri: str | None = None
    name: str | None = None
    mime_type: str | None = None
    text: str | None = None
    blob: str | None = None


class ResourceContent(Asked):
    type: Literal["resource"]
    resource: Resource


Said = Annotated[TextContent | ResourceContent, Field(discriminator="type")]


class ToolResult(Asked):
    type: Literal["tool_result"]
    tool_use_id: Name
    content: list[Said]
    is_error: bool | None = None


class InputMessage(Asked):
    role: Literal["user"]
    content: Annotated[
        list[Annotated[TextContent | ResourceContent | ToolResult, Field(discriminator="type")]], Field(min_length=1)
    ]
    additional_context: Any = None
    metadata: Any = None


class InitialMessage(Asked):
    role: Literal["user", "assistant", "system"]
    content: Annotated[list[Said], Field(min_length=1)]
    metadata: Any = None


class Component(Asked):
    name: str
    description: str = ""
    props_schema: Any = None
    state_schema: Any = None


class Tool(Asked):
    name: Annotated[str, Field(pattern=TOOL_NAME)]
    description: str = ""
    input_schema: dict[str, Any] | None = None
    max_calls: Annotated[int, Field(ge=1)] | None = None


class NamedTool(Asked):
    name: Name


class NewThread(Asked):
    """Also the body of ``POST /v1/threads``."""

    metadata: dict[str, Any] | None = None
    initial_messages: list[InitialMessage] | None = None


class ThreadChange(Asked):
    name: Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[^\x00]*$")] | None = None
    metadata: dict[str, Any] | None = None


class Run(Asked):
    """The body of both ways to start a run; ``thread`` and ``thread_metadata`` count where it begins one."""

    message: InputMessage
    available_components: list[Component] | None = None
    tools: list[Tool] | None = None
    """``max_calls`` of one bounds how often it is called for one thing that the user said."""
    tool_choice: Literal["auto", "none", "required"] | NamedTool | None = None
    previous_run_id: Name | None = None
    model: str | None = None
    max_tokens: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    run_metadata: Any = None
    thread: NewThread | None = None
    thread_metadata: dict[str, Any] | None = None

    @property
    def goes_on(self) -> bool:
        """Whether it only brings results of calls."""
        return all(isinstance(block, ToolResult) for block in self.message.content)


class ThreadQuery(Asked):
    limit: Annotated[int, Field(ge=1, le=100)] = 20
    cursor: Annotated[str, Field(max_length=200)] | None = None


class MessageQuery(ThreadQuery):
    order: Literal["asc", "desc"] = "asc"


async def read(model: type[Model], body: bytes) -> Model:
    """As :func:`parse`; a long body beside the event loop."""
    return parse(model, body) if len(body) <= SMALL else await aside(lambda: parse(model, body))


def parse(model: type[Model], given: bytes | dict[str, Any]) -> Model:
    """A body, or the fields of a query. Raises AppError with what is wrong and where."""
    try:
        return model.model_validate_json(given) if isinstance(given, bytes) else model.model_validate(given)
    except ValidationError as error:
        number = error.error_count()
        found = error.errors(include_url=False, include_input=False) if number <= MOST_FAULTS else ()
        faults = [f"{'.'.join(str(step) for step in fault['loc']) or 'the body'}: {fault['msg']}" for fault in found]
        raise invalid(
            f"This is not what is asked for here. {'; '.join(faults[:3]) or f'{number} things of it are wrong'}.",
            "Send it as @tambo-ai/typescript-sdk does; GET /openapi.json describes it.",
        ) from error


def metadata(given: dict[str, Any] | None) -> dict[str, Any]:
    """Raises AppError for one that is too long to be kept."""
    if given is None:
        return {}
    text = to_json(given)
    if len(text) > LARGEST_METADATA:
        raise invalid(f"Metadata may take {LARGEST_METADATA} bytes as JSON.", "Keep it elsewhere, and its id here.")
    if b"\\u0000" in text:
        raise invalid("Metadata holds the character U+0000, which cannot be stored.", "Leave it out.")
    return given


def uuid(given: str) -> UUID | None:
    """``None`` for what is none: nothing of ours has such an id."""
    try:
        return TypeAdapter(UUID).validate_python(given)
    except ValidationError:
        return None
