"""The steps that a run has finished: what pydantic-ai's durability asks before each step, and told after it.

A step is an answer of the model or one call of a tool. It is in the journal once its record is committed, together
with all events that came before; only then does the run go on. So whoever takes a run over finds every step that can
have had consequences, and carries out no other one twice without its idempotency key.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from typing import Any, Final

from agents.event_log import EventLog

MODEL: Final = "model"
TOOL: Final = "tool"
LONGEST_NAME: Final = 200


class LeaseLostError(Exception):
    """Another process has the run; nothing of it may be done here any more."""


class Journal:
    """Of one run in the process that holds it. ``steps``: those that were finished before, by name."""

    def __init__(self, log: EventLog, steps: Mapping[str, bytes]) -> None:
        self._log = log
        self._steps = dict(steps)
        self._begun: Counter[str] = Counter()

    async def step(self, kind: str, number: int, call_id: str, body: Callable[[], Awaitable[Any]]) -> Any:
        """What the step came to, as JSON values: from the journal, else from ``body``, which is then recorded.

        ``number``: the step of the run it belongs to. Steps of the same name are told apart by their order. One that
        fails leaves nothing behind. Raises :class:`LeaseLostError` when the record was refused.
        """
        name = self._name(f"{kind}:{number}:{call_id}" if call_id else f"{kind}:{number}")
        known = self._steps.get(name)
        if known is not None:
            return json.loads(known)
        try:
            value = await body()
        except BaseException:
            self._begun[name.partition("#")[0]] -= 1
            raise
        awaited = kind == TOOL or _has_consequences(value)
        kept = self._log.step(name, json.dumps(value, separators=(",", ":")).encode(), urgent=awaited)
        if awaited:
            await kept.wait()
        if self._log.lost:
            raise LeaseLostError
        return value

    def _name(self, base: str) -> str:
        base = _storable(base)
        self._begun[base] += 1
        count = self._begun[base]
        return base if count == 1 else f"{base}#{count}"


def _storable(name: str) -> str:
    """The name of a step as it may stand in an index: ids of calls come from models, which put anything into them."""
    if len(name) <= LONGEST_NAME and name.isprintable() and "#" not in name:
        return name
    digest = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()
    return f"{name.partition(':')[0]}:sha256:{digest}"


def _has_consequences(answer: Any) -> bool:
    """Whether something will be done about a model's answer. What only ends the run is committed with its end."""
    parts = answer.get("parts", ()) if isinstance(answer, dict) else ()
    return any(part.get("part_kind") != "text" and part.get("part_kind") != "thinking" for part in parts)


held: ContextVar[Journal | None] = ContextVar("innkeeper_journal", default=None)
"""The journal of the run that the current task works on; without one nothing is recorded."""
