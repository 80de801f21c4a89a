"""What a person does on a page: calls of tools through the one dispatch, in which the person is also who allows them.

A page that asks before it acts shows what the dispatch says the call would do; the button on it is the answer to
exactly that question. It is recorded like every other approval.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

from db import ledger
from db.ids import uuid7
from db.principal import Principal
from tools.approval import ApprovalRequiredError
from tools.catalog import Catalog
from tools.decisions import Decisions
from tools.dispatch import Dispatch
from tools.narrowing import Narrowing
from tools.outcome import Outcome

ONCE: Final = "once"
"""The field of a form whose value makes sending it twice do its work once."""
ALLOWED: Final = "allowed"
"""The field that names the question which the person has answered by pressing the button."""


def once(form: Mapping[str, str], digest: bytes) -> str:
    """The idempotency key of what a form does. ``digest``: of what it says; of other words it is another act, though
    the form be the same: somebody went back and typed anew."""
    return f"page {form.get(ONCE) or uuid7().hex} {digest.hex()}"


class Acts:
    def __init__(self, dispatch: Dispatch, catalog: Catalog) -> None:
        self._dispatch = dispatch
        self._decisions = Decisions(dispatch.services, catalog)
        # A page is no connection: it calls whatever there is.
        self._narrowing = Narrowing(families=catalog.families)

    async def call(
        self, person: Principal, tool: str, arguments: Mapping[str, Any], form: Mapping[str, str], *, sure: bool = False
    ) -> Outcome:
        """Call ``tool`` as ``person`` with what ``form`` said. ``sure``: the form was itself the question.

        Raises ``ApprovalRequiredError`` while the person has not answered, and what dispatch raises.
        """
        key = once(form, ledger.digest(tool, arguments))

        async def call() -> Outcome:
            return await self._dispatch.call(person, tool, arguments, narrowing=self._narrowing, idempotency_key=key)

        try:
            return await call()
        except ApprovalRequiredError as waiting:
            question: UUID = waiting.asked.id
            if not sure and form.get(ALLOWED) != str(question):
                raise
        await self._decisions.decide(person, question, allow=True)
        return await call()
