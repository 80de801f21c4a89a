"""A component while its props are being written, told as an AG-UI activity.

``ACTIVITY_SNAPSHOT`` begins it: its ``messageId`` is the component's id, its ``content`` ``{name, toolCallId, status,
props, streaming, state}``. ``ACTIVITY_DELTA`` changes that by JSON Patch: ``/props`` grows, ``/streaming/<prop>`` says
``started``, ``streaming`` or ``done``, ``/status`` goes from ``streaming`` to ``done``, ``invalid`` (with ``/error``),
``cancelled`` or ``superseded``.
"""

from __future__ import annotations

from typing import Any, Final, Literal, TypeAlias

from agents.agui import Event
from agents.component_offers import Component
from agents.partial_json import PartialObject, escaped
from db import transcript
from db.transcript import COMPONENT

Status: TypeAlias = Literal["done", "invalid", "cancelled", "superseded"]
ERROR: Final = "error"


class ComponentStream:
    """One call of a ``show_component_*`` tool."""

    def __init__(self, component_id: str, call_id: str, component: Component) -> None:
        self.id = component_id
        self.call_id = call_id
        self.component = component
        self._props = PartialObject("/props")
        self._written: list[str] = []

    def begun(self) -> Event:
        content: dict[str, Any] = {
            "name": self.component.name,
            "toolCallId": self.call_id,
            "status": "streaming",
            "props": {},
            "streaming": {},
            "state": None,
        }
        return {"type": "ACTIVITY_SNAPSHOT", "messageId": self.id, "activityType": COMPONENT, "content": content}

    def feed(self, text: str) -> None:
        """A piece of the props, as JSON text."""
        self._written.append(text)
        self._props.feed(text)

    def drawn(self) -> Event | None:
        """What has come since this was asked the last time."""
        patch = self._props.patch()
        for prop, state in self._props.states().items():
            patch.append({"op": "add", "path": f"/streaming/{escaped(prop)}", "value": state})
        return changed(self.id, patch) if patch else None

    def settled(self) -> Event | None:
        """All of its props at once, as its thread has them, where what streamed in is not that: of text that is no
        object of JSON none are left, and some names no patch can lead to."""
        props = transcript.props("".join(self._written) or {})
        if props == self._props.value and (self._props.whole or not self._props.begun):
            return None
        whole = {"props": props, "streaming": dict.fromkeys(props, "done")}
        patch = [{"op": "replace", "path": f"/{name}", "value": value} for name, value in whole.items()]
        return changed(self.id, patch)

    def kept(self) -> dict[str, Any]:
        """What the thread keeps of it beside its props."""
        kept: dict[str, Any] = {"call": self.call_id, "name": self.component.name}
        if self.component.state_schema is not None:
            kept["stateSchema"] = self.component.state_schema
        return kept


def changed(component_id: str, patch: list[dict[str, Any]]) -> Event:
    """The ``ACTIVITY_DELTA`` of a JSON Patch (RFC 6902) over a component's content."""
    return {"type": "ACTIVITY_DELTA", "messageId": component_id, "activityType": COMPONENT, "patch": patch}


def ended(component_id: str, status: Status, error: str | None = None) -> Event:
    """A component's last change: its status, and why it is ``invalid``."""
    patch: list[dict[str, Any]] = [{"op": "replace", "path": "/status", "value": status}]
    if error is not None:
        patch.append({"op": "add", "path": f"/{ERROR}", "value": error})
    return changed(component_id, patch)
