"""The one gate before each request to a model: what a run has used, and whether it may ask once more.

A run that nobody gave a budget, and that neither started another run nor was started by one, is decided about here,
from what it has used; every other one asks the database, where all processes meet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, Protocol
from uuid import UUID

from pydantic_ai.exceptions import UsageLimitExceeded
from pydantic_ai.messages import ModelMessage, ModelMessagesTypeAdapter, ModelResponse

from agents.context_window import CHARACTERS_PER_TOKEN
from agents.journal import LeaseLostError
from agents.model_spec import ModelSpec
from agents.prices import Prices
from db.agents import Limits
from db.errors import AppError
from db.spending import Used, Verdict, budget_exceeded, limit_reached
from db.transcript import OURS

if TYPE_CHECKING:
    from pydantic_ai import RunContext

BROKEN: Final = "broken"
"""In what we note about an answer: tokens in and out, and US$, of those that broke off before it, by estimate."""
USUAL_ANSWER: Final = 1000
"""Tokens that are reserved for an answer whose length nobody bounds."""


class Ledger(Protocol):
    """Where runs of all processes are written down."""

    async def meter(
        self, project_id: UUID, run_id: UUID, epoch: int, limits: Limits, used: Used, estimate: Decimal | None
    ) -> Verdict:
        """See :func:`db.spending.meter`."""
        ...


@dataclass(frozen=True, slots=True)
class Metered:
    """Which run it is. ``budgeted``: somebody has a budget for it; ``shared``: there are runs it shares limits with;
    ``of_end_user``: of one who is not told how much the project may use."""

    project_id: UUID
    run_id: UUID
    epoch: int
    limits: Limits = field(default_factory=Limits)
    prices: Prices = field(default_factory=Prices)
    budgeted: bool = False
    shared: bool = False
    of_end_user: bool = False


class Meter:
    """Of one run in the process that holds it. ``broken``: how many characters each answer was long that a process left
    in the middle of when it died. The request that is made again counts for those, too."""

    def __init__(self, run: Metered, ledger: Ledger, broken: Sequence[int] = ()) -> None:
        self._run = run
        self._ledger = ledger
        self._shared = run.shared
        self._answers: list[tuple[str, ModelResponse]] = []
        self._tool_calls = 0
        self._asking: Sequence[ModelMessage] = ()
        self._spec = ModelSpec()
        self._broken = broken
        self._counted: list[ModelResponse] = []

    @property
    def answers(self) -> list[ModelResponse]:
        """All that the model has answered in this run, also what nothing came of."""
        return [answer for _model, answer in self._answers]

    @property
    def model(self) -> str | None:
        """The id of the model that answered last."""
        return self._answers[-1][0] if self._answers else None

    @property
    def used(self) -> Used:
        usage = [answer.usage for answer in self.answers]
        costs = [self._run.prices.of(answer, model) for model, answer in self._answers]
        return Used(
            len(usage),
            self._tool_calls,
            sum(one.input_tokens for one in usage),
            sum(one.output_tokens for one in usage),
            sum((cost for cost in costs if cost is not None), Decimal(0)),
        )

    @property
    def cost(self) -> Decimal | None:
        """Of the whole run. None as soon as one price is unknown: a sum of the others would look like all of it."""
        costs = [self._run.prices.of(answer, model) for model, answer in self._answers]
        known = [cost for cost in costs if cost is not None]
        return sum(known, Decimal(0)) if costs and len(known) == len(costs) else None

    def tokens(self) -> list[tuple[str, int, int]]:
        """Tokens in and out of each model that answered, in the order of their first answers."""
        found: dict[str, tuple[int, int]] = {}
        for model, answer in self._answers:
            taken, given = found.get(model, (0, 0))
            found[model] = (taken + answer.usage.input_tokens, given + answer.usage.output_tokens)
        return [(model, taken, given) for model, (taken, given) in found.items()]

    async def before_request(self, context: RunContext[Any], spec: ModelSpec) -> None:
        """Let the run ask its model once more. Raises AppError ``run_limit_reached`` or ``budget_exceeded``."""
        self._tool_calls = context.usage.tool_calls
        self._asking, self._spec = context.messages, spec
        self._counted = [self._guess(length) for length in self._broken]
        self._broken = ()
        self._answers += [(spec.model, answer) for answer in self._counted]
        used, limits = self.used, self._run.limits
        if limits.tokens is not None and used.input_tokens + used.output_tokens >= limits.tokens:
            raise limit_reached("tokens", limits.tokens)
        if limits.cost_usd is not None and used.usd >= limits.cost_usd:
            raise limit_reached("cost_usd", limits.cost_usd)
        if self._shared or self._run.budgeted:
            await self._ask(used, self._estimate() if self._run.budgeted else Decimal(0))

    def took(self, answer: ModelResponse, asked: str) -> None:
        """The answer of a model has come, now or, in a run that was taken over, before. ``asked``: the run's model, of
        which it is unless it says otherwise."""
        ours = (answer.metadata or {}).get(OURS, {})
        model = ours.get("model") or asked
        if not self._asking:
            self._answers += [(model, _estimated(*one)) for one in ours.get(BROKEN, ())]
        self._answers.append((model, answer))
        self._asking = ()

    def before(self) -> dict[str, object]:
        """What whoever finds the answer that has just come in the journal must know of those that broke off before."""
        if not self._counted:
            return {}
        usages = [answer.usage for answer in self._counted]
        return {BROKEN: [[one.input_tokens, one.output_tokens, str(one.cost or "")] for one in usages]}

    async def share(self) -> None:
        """Another run is about to be started: what this one has used so far counts for both from now on."""
        self._shared = True
        await self._ask(self.used, None)

    def broken_off(self, said: str) -> None:
        """The model was in the middle of an answer, which nobody will say the tokens of: it is counted by estimate."""
        if not self._asking or not said:
            return
        self._answers.append((self._spec.model, self._guess(len(said))))

    def _guess(self, length: int) -> ModelResponse:
        """An answer of so many characters to what the model is asked now."""
        taken, given = self._size(), length // CHARACTERS_PER_TOKEN + 1
        return _estimated(taken, given, str(self._run.prices.estimate(self._spec, taken, given) or ""))

    async def _ask(self, used: Used, estimate: Decimal | None) -> None:
        run = self._run
        verdict = await self._ledger.meter(run.project_id, run.run_id, run.epoch, run.limits, used, estimate)
        if verdict.of == "lost":
            raise LeaseLostError
        if verdict.of is not None and verdict.of.startswith(("project", "end_user")):
            raise budget_exceeded(verdict.of, None if run.of_end_user else verdict.most)
        if verdict.of is not None:
            raise limit_reached(verdict.of, verdict.most or 0)

    def _estimate(self) -> Decimal:
        longest = self._spec.parameters.get("max_tokens")
        answer = longest if isinstance(longest, int) else USUAL_ANSWER
        if not self._run.prices.estimate(self._spec, 1_000_000, 1_000_000):
            return Decimal(0)
        return self._run.prices.estimate(self._spec, self._size(), answer)

    def _size(self) -> int:
        return len(ModelMessagesTypeAdapter.dump_json(list(self._asking))) // CHARACTERS_PER_TOKEN


def counted_out(error: UsageLimitExceeded, limits: Limits) -> AppError:
    """The limit that pydantic-ai keeps for us, which says it in words only."""
    which = "steps" if "request_limit" in str(error) else "tool_calls"
    return limit_reached(which, getattr(limits, which))


def _estimated(taken: int, given: int, usd: str) -> ModelResponse:
    answer = ModelResponse(parts=[])
    answer.usage.input_tokens, answer.usage.output_tokens = taken, given
    answer.usage.cost = Decimal(usd) if usd else None
    return answer
