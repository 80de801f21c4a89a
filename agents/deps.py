"""What one run hands to the one agent: everything that differs between runs and tenants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from agents.model_spec import ModelSpec
from agents.wishes import NONE, Wishes
from db.principal import Principal

if TYPE_CHECKING:
    from pydantic_ai.messages import AgentStreamEvent
    from pydantic_ai.models import Model

    from agents.component_offers import Component
    from agents.meter import Meter
    from agents.shared_state import SharedState


class Listener(Protocol):
    """Hears what happens in a run."""

    def tell(self, event: AgentStreamEvent) -> None: ...

    def ids(self) -> dict[str, object]:
        """By which ids the answer of the model that has just ended was told."""
        ...


@dataclass(frozen=True, slots=True)
class RunDeps:
    """``grant`` is what the run's tool calls act as; ``call_prefix`` starts their idempotency keys. ``components``:
    what the model may show, by the tools that show it. ``state``: what it shares with the client, if anything.
    ``wishes``: of the client, for this run's requests to the model. ``models``: the run's, by its id, once it was
    found."""

    grant: Principal
    call_prefix: str
    instructions: str
    model_spec: ModelSpec
    narrator: Listener
    meter: Meter
    components: Mapping[str, Component] = field(default_factory=dict)
    fallbacks: Sequence[ModelSpec] = ()
    state: SharedState | None = None
    wishes: Wishes = NONE
    models: dict[str, Model] = field(default_factory=dict)
