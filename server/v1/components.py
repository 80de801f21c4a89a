"""Components in the words of npm @tambo-ai/client 1.1: ``CUSTOM`` events made of the activities of
:mod:`agents.component_stream`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

Event = dict[str, Any]
START: Final = "tambo.component.start"
PROPS: Final = "tambo.component.props_delta"
STATE: Final = "tambo.component.state_delta"
END: Final = "tambo.component.end"


def started(said: Event, message_id: str) -> Iterator[Event]:
    """Of an ``ACTIVITY_SNAPSHOT``: it begins within the message ``message_id``."""
    content, component_id = said["content"], said["messageId"]
    named = {"componentId": component_id, "componentName": content["name"]}
    yield _custom(START, {"messageId": message_id, **named})
    for name, field in ((PROPS, "props"), (STATE, "state")):
        if content[field]:
            whole = [{"op": "replace", "path": "", "value": content[field]}]
            yield _custom(name, {"componentId": component_id, "operations": whole})


def changed(said: Event) -> list[Event]:
    """Of an ``ACTIVITY_DELTA``; an end is the last of them (:func:`is_end`)."""
    component_id, patch = said["messageId"], said["patch"]
    streaming: dict[str, str] = {}
    for one in patch:
        if _is_of(one, "/streaming"):
            streaming.update(one["value"] if one["path"] == "/streaming" else {_below(one, "/streaming"): one["value"]})
    found = []
    for name, field in ((PROPS, "/props"), (STATE, "/state")):
        operations = [{**one, "path": one["path"][len(field) :]} for one in patch if _is_of(one, field)]
        if operations or (streaming and name == PROPS):
            value = {"componentId": component_id, "operations": operations}
            found.append(_custom(name, {**value, "streaming": streaming} if name == PROPS else value))
    status = next((one["value"] for one in patch if one["path"] == "/status"), None)
    if status is not None:
        found.append(_custom(END, {"componentId": component_id, "status": status}))
    return found


def is_end(event: Event) -> bool:
    return event.get("name") == END


def _is_of(operation: Event, field: str) -> bool:
    path: str = operation["path"]
    return path == field or path.startswith(f"{field}/")


def _below(operation: Event, field: str) -> str:
    """The member of ``field`` that an operation names (RFC 6901, 4)."""
    name: str = operation["path"][len(field) + 1 :]
    return name.replace("~1", "/").replace("~0", "~")


def _custom(name: str, value: Event) -> Event:
    return {"type": "CUSTOM", "name": name, "value": value}
