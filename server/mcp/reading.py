"""What there is to read and to start from: resources, prompts and completion, as ``tools`` decides it."""

from __future__ import annotations

from typing import Any

from db.errors import AppError, invalid
from server.mcp.context import Checked, Context, inbound_of, protocol_error, refuse_cursor
from server.mcp.inbound import Inbound
from server.mcp.results import COMPLETE, trust_label
from tools import completion, prompts, shelf
from tools.catalog import Catalog
from tools.dispatch import Dispatch
from tools.prompts import Part, PromptSpec
from tools.resources import ResourceSpec
from tools.trust import fenced


class Reading:
    """One method per MCP method; the caller and its narrowing come with ``ctx.request``."""

    def __init__(self, catalog: Catalog, dispatch: Dispatch) -> None:
        self.catalog = catalog
        self.dispatch = dispatch
        self.services = dispatch.services

    async def list_resources(self, ctx: Context, _checked: Checked) -> dict[str, Any]:
        """What this caller can read, a page at a time; titles are names that people gave."""
        inbound, params = inbound_of(ctx), ctx.params or {}
        try:
            found, cursor = await shelf.shelved(self.services, self.catalog, inbound.principal, params.get("cursor"))
        except AppError as error:
            raise protocol_error(inbound, error) from error
        resources = [
            {**_resource(one.spec), "uri": one.uri, "name": one.name, "title": one.title, "mimeType": one.mime_type}
            for one in found
        ]
        label = trust_label(["/resources/*/title"] if resources else [])
        page = {"resultType": COMPLETE, "resources": resources, "_meta": label}
        return page if cursor is None else {**page, "nextCursor": cursor}

    async def list_prompts(self, ctx: Context, _checked: Checked) -> dict[str, Any]:
        """The workflows whose tools this caller may all call."""
        refuse_cursor(ctx)
        inbound = inbound_of(ctx)
        specs = self.catalog.visible_prompts(inbound.principal, inbound.narrowing.families)
        return {"resultType": COMPLETE, "prompts": [_prompt(spec, inbound) for spec in specs]}

    async def get_prompt(self, ctx: Context, _checked: Checked) -> dict[str, Any]:
        inbound, params = inbound_of(ctx), ctx.params or {}
        try:
            spec = self.catalog.prompt(inbound.principal, params["name"], inbound.narrowing.families)
            said = await prompts.spoken(self.services, spec, inbound.principal, params.get("arguments") or {})
        except AppError as error:
            raise protocol_error(inbound, error) from error
        messages = [{"role": "user", "content": _content(part)} for part in said]
        untrusted = [f"/messages/{number}/content" for number, part in enumerate(said) if part.untrusted]
        return {
            "resultType": COMPLETE,
            "description": spec.description,
            "messages": messages,
            "_meta": trust_label(untrusted),
        }

    async def complete(self, ctx: Context, _checked: Checked) -> dict[str, Any]:
        inbound, params = inbound_of(ctx), ctx.params or {}
        ref, argument = params["ref"], params["argument"]
        what = (self.services, self.catalog, inbound.principal)
        try:
            if ref["type"] == "ref/prompt":
                found = await completion.complete_prompt(
                    *what, inbound.narrowing.families, ref["name"], argument["name"], argument["value"]
                )
            elif ref["type"] == "ref/resource":
                known = (params.get("context") or {}).get("arguments") or {}
                found = await completion.complete_template(
                    *what, ref["uri"], argument["name"], argument["value"], known
                )
            else:
                raise invalid("That is no reference.", "Refer to a prompt or to a resource template.")
        except AppError as error:
            raise protocol_error(inbound, error) from error
        return {"resultType": COMPLETE, "completion": {"values": found.values, "hasMore": found.has_more}}


def _resource(spec: ResourceSpec) -> dict[str, Any]:
    return {"name": spec.name, "title": spec.title, "description": spec.description, "mimeType": spec.mime_type}


def _prompt(spec: PromptSpec, inbound: Inbound) -> dict[str, Any]:
    arguments = [
        {"name": one.name, "title": one.title, "description": one.description, "required": one.required}
        for one in spec.arguments_of(inbound.principal)
    ]
    return {"name": spec.name, "title": spec.title, "description": spec.description, "arguments": arguments}


def _content(part: Part) -> dict[str, Any]:
    if part.uri is None:
        return {"type": "text", "text": part.text}
    text = fenced(part.text.encode(), part.untrusted)
    return {"type": "resource", "resource": {"uri": part.uri, "mimeType": "application/json", "text": text}}
