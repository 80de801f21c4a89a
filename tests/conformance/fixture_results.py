"""What the fixtures of the official suite answer, as plain MCP results. The suite's README names and words them."""

from __future__ import annotations

import json
from typing import Any

from server.mcp.results import COMPLETE

Result = dict[str, Any]

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg=="
WAV = "UklGRiYAAABXQVZFZm10IBAAAAABAAEAQB8AAAB9AAACABAAZGF0YQIAAAA="


def text(said: str) -> Result:
    return {"type": "text", "text": said}


def image() -> Result:
    return {"type": "image", "data": PNG, "mimeType": "image/png"}


def embedded(uri: str, mime_type: str, said: str) -> Result:
    return {"type": "resource", "resource": {"uri": uri, "mimeType": mime_type, "text": said}}


def answer(*content: Result, is_error: bool = False) -> Result:
    """A tool's complete result. The structured half is there because every tool of the house declares one."""
    return {"resultType": COMPLETE, "content": list(content), "structuredContent": {}, "isError": is_error}


def asks(state: str | None = None, **requests: Result) -> Result:
    """A result that needs input from the client first (2026-07-28, multi round-trip requests)."""
    result: Result = {"resultType": "input_required", "inputRequests": requests}
    return result if state is None else {**result, "requestState": state}


def elicitation(message: str, **properties: str) -> Result:
    """An input request for a form with the named properties, all of them required."""
    schema = {
        "type": "object",
        "properties": {name: {"type": kind} for name, kind in properties.items()},
        "required": list(properties),
    }
    return {"method": "elicitation/create", "params": {"message": message, "requestedSchema": schema}}


def sampling(prompt: str, max_tokens: int = 100) -> Result:
    messages = [{"role": "user", "content": text(prompt)}]
    return {"method": "sampling/createMessage", "params": {"messages": messages, "maxTokens": max_tokens}}


def roots() -> Result:
    return {"method": "roots/list", "params": {}}


SIMPLE: dict[str, Result] = {
    "test_simple_text": answer(text("This is a simple text response for testing.")),
    "test_image_content": answer(image()),
    "test_audio_content": answer({"type": "audio", "data": WAV, "mimeType": "audio/wav"}),
    "test_embedded_resource": answer(
        embedded("test://embedded-resource", "text/plain", "This is an embedded resource content.")
    ),
    "test_multiple_content_types": answer(
        text("Multiple content types test:"),
        image(),
        embedded("test://mixed-content-resource", "application/json", '{"test":"data","value":123}'),
    ),
    "test_error_handling": answer(text("This tool intentionally returns an error for testing"), is_error=True),
    "json_schema_2020_12_tool": answer(text("Taken.")),
    "test_x_mcp_header": answer(text("Taken.")),
}
"""Tools that always answer the same."""

SCHEMA_2020_12: Result = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {
        "address": {
            "$anchor": "addressDef",
            "type": "object",
            "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
        }
    },
    "properties": {
        "name": {"type": "string"},
        "address": {"$ref": "#/$defs/address"},
        "contactMethod": {"type": "string", "enum": ["phone", "email"]},
        "phone": {"type": "string"},
        "email": {"type": "string"},
    },
    "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
    "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
    "then": {"required": ["phone"]},
    "else": {"required": ["email"]},
    "additionalProperties": False,
}

NO_ARGUMENTS: Result = {"type": "object", "properties": {}, "additionalProperties": False}

SCHEMAS: dict[str, Result] = {
    "json_schema_2020_12_tool": SCHEMA_2020_12,
    "test_x_mcp_header": {
        "type": "object",
        "properties": {
            "region": {"type": "string", "x-mcp-header": "Region"},
            "priority": {"type": "integer", "x-mcp-header": "Priority"},
            "urgent": {"type": "boolean", "x-mcp-header": "Urgent"},
            "query": {"type": "string"},
        },
    },
    "test_sampling": {"type": "object", "properties": {"prompt": {"type": "string"}}, "required": ["prompt"]},
    "test_elicitation": {"type": "object", "properties": {"message": {"type": "string"}}, "required": ["message"]},
}
"""Input schemas of the tools that take arguments."""

DEFAULTS_FORM: Result = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "default": "John Doe"},
        "age": {"type": "integer", "default": 30},
        "score": {"type": "number", "default": 95.5},
        "status": {"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
        "verified": {"type": "boolean", "default": True},
    },
}
TITLED = [{"const": f"value{n}", "title": title} for n, title in enumerate(("First", "Second", "Third"), 1)]
ENUMS_FORM: Result = {
    "type": "object",
    "properties": {
        "untitledSingle": {"type": "string", "enum": ["option1", "option2", "option3"]},
        "titledSingle": {
            "type": "string",
            "oneOf": TITLED,
        },
        "legacyEnum": {
            "type": "string",
            "enum": ["opt1", "opt2", "opt3"],
            "enumNames": ["Option One", "Option Two", "Option Three"],
        },
        "untitledMulti": {"type": "array", "items": {"type": "string", "enum": ["option1", "option2", "option3"]}},
        "titledMulti": {
            "type": "array",
            "items": {"anyOf": TITLED},
        },
    },
}
USER_FORM: Result = {
    "type": "object",
    "properties": {"username": {"type": "string"}, "email": {"type": "string"}},
    "required": ["username", "email"],
}

PROMPTS: dict[str, Result] = {
    "test_simple_prompt": {"description": "A prompt without arguments."},
    "test_prompt_with_arguments": {
        "description": "A prompt with arguments.",
        "arguments": [{"name": name, "description": name, "required": True} for name in ("arg1", "arg2")],
    },
    "test_prompt_with_embedded_resource": {
        "description": "A prompt that carries a resource.",
        "arguments": [{"name": "resourceUri", "description": "The resource to carry.", "required": True}],
    },
    "test_prompt_with_image": {"description": "A prompt that carries an image."},
    "test_input_required_result_prompt": {"description": "A prompt that asks back."},
}


def prompt_messages(name: str, given: dict[str, Any]) -> list[Result]:
    """The messages of a fixture prompt; ``given`` are its arguments."""
    contents = {
        "test_simple_prompt": lambda: [text("This is a simple prompt for testing.")],
        "test_prompt_with_arguments": lambda: [
            text(f"Prompt with arguments: arg1='{given['arg1']}', arg2='{given['arg2']}'")
        ],
        "test_prompt_with_embedded_resource": lambda: [
            embedded(given["resourceUri"], "text/plain", "Embedded resource content for testing."),
            text("Please process the embedded resource above."),
        ],
        "test_prompt_with_image": lambda: [image(), text("Please analyze the image above.")],
        "test_input_required_result_prompt": lambda: [text("Thank you.")],
    }
    return [{"role": "user", "content": content} for content in contents[name]()]


RESOURCES: dict[str, Result] = {
    "test://static-text": {"mimeType": "text/plain", "text": "This is the content of the static text resource."},
    "test://static-binary": {"mimeType": "image/png", "blob": PNG},
    "test://watched-resource": {"mimeType": "text/plain", "text": "Watched resource content"},
}
TEMPLATE = "test://template/{id}/data"


def resource_contents(uri: str) -> Result | None:
    """What a fixture resource holds, ``None`` for any other address."""
    if uri in RESOURCES:
        return {"uri": uri, **RESOURCES[uri]}
    before, after = TEMPLATE.split("{id}")
    if uri.startswith(before) and uri.endswith(after):
        found = uri[len(before) : len(uri) - len(after)]
        said = json.dumps({"id": found, "templateTest": True, "data": f"Data for ID: {found}"})
        return {"uri": uri, "mimeType": "application/json", "text": said}
    return None
