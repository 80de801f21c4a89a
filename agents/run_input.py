"""What a client asks for: an AG-UI 1.0 ``RunAgentInput``, checked, with our own part of ``forwardedProps`` read.

Importing this imports the protocol's models; :mod:`agents.engine` does it off the event loop.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeVar, cast
from uuid import UUID

from ag_ui.core import Context, Message, ResumeEntry, RunAgentInput, Tool
from pydantic import ValidationError

from agents import component_offers, json_state, wishes
from agents.component_offers import Component, FromRegistry
from agents.interrupts import Resume
from agents.json_values import MOST_OF_TOOLS, number_of
from agents.wishes import Wishes
from db.errors import AppError, invalid
from db.runs import OnBusy

MOST: Final = {"messages": 10_000, "tools": 500, "context": 1_000, "resume": 1_000}
"""Of each list: all of it is checked in one go, which lets nobody else do anything."""
MOST_FAULTS: Final = 1_000
"""To list more takes longer than to find them."""
LONGEST_ID: Final = 255
LONGEST_REASON: Final = 1_000
OUR_PROPS: Final = "innkeeper"
_KNOWN: Final = ("project", "onBusy", "onDisconnect", "components", "messagesSnapshot", "parameters", "about")
Wish = TypeVar("Wish", bound=str)


@dataclass(frozen=True, slots=True)
class RunInput:
    """``text`` is the JSON as it came, ``canonical`` the same for every spelling of the same JSON value.

    ``project``, ``on_disconnect``, ``on_busy``, ``components`` and ``messages_snapshot``: from ``project``,
    ``onDisconnect``, ``onBusy``, ``components`` and ``messagesSnapshot`` in ``forwardedProps.innkeeper``; ``about`` is
    kept beside what the client says, ``wishes`` come from ``parameters``. ``state`` is ``None`` where the client sends
    none.
    """

    thread_id: str
    run_id: str
    messages: Sequence[Message]
    tools: Sequence[Tool]
    context: Sequence[Context]
    resume: Sequence[Resume]
    text: str
    canonical: str
    project: UUID | None
    on_disconnect: Literal["continue", "cancel"]
    on_busy: OnBusy
    components: Sequence[Component | FromRegistry]
    messages_snapshot: Literal["differing", "always", "never"]
    state: Any
    about: Any
    wishes: Wishes

    def digest_for(self, agent: str) -> bytes:
        """What decides whether a repeated run id asks for the same run."""
        return hashlib.sha256(f"{agent}\n{self.canonical}".encode()).digest()


def parse(body: bytes) -> RunInput:
    """Raises AppError ``invalid_arguments`` with what is wrong and where."""
    value = _counted(body)
    try:
        asked = RunAgentInput.model_validate_json(body)
    except ValidationError as error:
        raise _not_one(error) from None
    text = body.decode()
    if value is None:
        raise invalid("A number of the body is too long.", "Send it as a string.")
    if "\\u0000" in text and _holds_nul(value):
        raise invalid("A text holds the character U+0000, which cannot be stored.", "Leave it out.")
    for name, given in (("threadId", asked.thread_id), ("runId", asked.run_id)):
        if not 1 <= len(given) <= LONGEST_ID:
            raise invalid(f"{name} must have 1 to {LONGEST_ID} characters.", "Any text will do; a UUID is usual.")
    if asked.state is not None:
        json_state.check(asked.state)
    ours = _ours(asked.forwarded_props)
    return RunInput(
        thread_id=asked.thread_id,
        run_id=asked.run_id,
        messages=asked.messages,
        tools=asked.tools or (),
        context=asked.context or (),
        resume=_resumed(asked.resume or ()),
        text=text,
        canonical=json.dumps(value, sort_keys=True, separators=(",", ":")),
        project=project_id(ours.get("project"), "forwardedProps.innkeeper.project"),
        on_disconnect=_wish(ours, "onDisconnect", ("continue", "cancel")),
        on_busy=_wish(ours, "onBusy", ("reject", "enqueue", "interrupt")),
        components=component_offers.parse(ours.get("components")),
        messages_snapshot=_wish(ours, "messagesSnapshot", ("differing", "always", "never")),
        state=asked.state,
        about=ours.get("about"),
        wishes=wishes.parse(ours.get("parameters")),
    )


def _counted(body: bytes) -> Any:
    """The JSON value of ``body``, or ``None`` where it is none. Raises AppError for a list that is too long."""
    try:
        value = json.loads(body.decode())
    except (ValueError, RecursionError):
        return None
    for name, most in MOST.items():
        listed = value.get(name) if isinstance(value, dict) else None
        if isinstance(listed, list) and len(listed) > most:
            raise invalid(f"There are {len(listed)} {name}; {most} is the most.", f"Send fewer {name}.")
    tools = value.get("tools") if isinstance(value, dict) else None
    if tools and number_of(tools) > MOST_OF_TOOLS:
        raise invalid(f"The tools hold over {MOST_OF_TOOLS} JSON values.", "Send fewer, or simpler parameters.")
    return value


def _not_one(error: ValidationError) -> AppError:
    number = error.error_count()
    found = error.errors(include_url=False, include_input=False) if number <= MOST_FAULTS else ()
    faults = [f"{_place(fault['loc'])}: {fault['msg']}" for fault in found[:3]]
    return invalid(
        f"The body is not an AG-UI RunAgentInput. {'; '.join(faults) or f'{number} things of it are wrong'}.",
        'At least: {"threadId": "t", "runId": "r", "messages": [{"id": "m", "role": "user", "content": "Hello"}]}.',
    )


def _resumed(entries: Sequence[ResumeEntry]) -> list[Resume]:
    answers = [_answer(entry, f"resume.{number}") for number, entry in enumerate(entries)]
    if len({answer.interrupt_id for answer in answers}) < len(answers):
        raise invalid("'resume' answers an interrupt twice.", "Send one entry for each interrupt.")
    return answers


def _answer(entry: ResumeEntry, place: str) -> Resume:
    """Nothing but ``{"approved": true}`` allows a call. Without a payload it is left to whoever decides elsewhere."""
    if entry.status == "cancelled":
        return Resume(entry.interrupt_id, False)
    payload = entry.payload
    if payload is None:
        return Resume(entry.interrupt_id, None)
    approved = payload.get("approved") if isinstance(payload, dict) else None
    reason = payload.get("reason") if isinstance(payload, dict) else None
    if not isinstance(approved, bool) or not isinstance(reason, str | None):
        raise invalid(
            f"{place}.payload does not fit the interrupt's responseSchema.",
            'Send {"approved": true} or {"approved": false, "reason": "..."}; leave it out if it is decided elsewhere.',
        )
    if payload.get("editedArgs") is not None:
        raise invalid(f"{place}.payload.editedArgs: a call is made as it was asked, or not at all.", "Deny it instead.")
    return Resume(entry.interrupt_id, approved, (reason or "")[:LONGEST_REASON])


def _ours(props: Any) -> Mapping[str, Any]:
    ours = props.get(OUR_PROPS) if isinstance(props, dict) else None
    if ours is None:
        return {}
    if not isinstance(ours, dict):
        raise invalid("forwardedProps.innkeeper must be an object.", 'Like {"onDisconnect": "cancel"}.')
    for name in ours:
        if name not in _KNOWN:
            raise invalid(f"forwardedProps.innkeeper has no {name!r}.", f"It may hold {', '.join(_KNOWN)}.")
    return ours


def _wish(ours: Mapping[str, Any], name: str, wishes: tuple[Wish, ...]) -> Wish:
    """One of ``wishes``; the first where nothing is said."""
    said = ours.get(name, wishes[0])
    if said not in wishes:
        listed = ", ".join(f"'{wish}'" for wish in wishes)
        raise invalid(f"forwardedProps.innkeeper.{name} is none of {listed}.", f"Leave it out for '{wishes[0]}'.")
    return cast(Wish, said)


def project_id(given: object, place: str) -> UUID | None:
    """A project id as a client writes it; raises AppError when it is none."""
    if given is None:
        return None
    try:
        return UUID(given) if isinstance(given, str) else UUID("")
    except ValueError:
        raise invalid(
            f"{place} is not a project id.",
            "Project ids are UUIDs; list_projects shows them.",
            details={"next_tool": "list_projects"},
        ) from None


def _holds_nul(value: Any) -> bool:
    if isinstance(value, str):
        return "\x00" in value
    if isinstance(value, dict):
        return any(_holds_nul(key) or _holds_nul(held) for key, held in value.items())
    return isinstance(value, list) and any(_holds_nul(held) for held in value)


def _place(location: tuple[int | str, ...]) -> str:
    return ".".join(str(step) for step in location) or "body"
