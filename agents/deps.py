"""What one run hands to the one agent: everything that differs between runs and tenants."""

from __future__ import annotations

from dataclasses import dataclass

from agents.model_spec import ModelSpec
from db.principal import Principal


@dataclass(frozen=True, slots=True)
class RunDeps:
    """``grant`` is what the run's tool calls act as; ``call_prefix`` starts their idempotency keys."""

    grant: Principal
    call_prefix: str
    instructions: str
    model_spec: ModelSpec
