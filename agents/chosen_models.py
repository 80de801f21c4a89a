"""The models that a run's agent is set to, made ready to be asked as the run's caller."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agents import demo
from agents.model_spec import ModelSpec
from agents.patience import PASSING
from db.agents import DEMO
from db.errors import AppError

if TYPE_CHECKING:
    from agents.models import ModelFactory
    from agents.plan import Plan


async def first(factory: ModelFactory, plan: Plan) -> ModelSpec:
    """Raises AppError for one that cannot be asked."""
    if plan.agent == DEMO:
        return ModelSpec(demo.MODEL_ID)
    return await _prepared(factory, plan, plan.settings.model or "")


async def fallbacks(factory: ModelFactory, plan: Plan) -> list[ModelSpec]:
    """Those that are there: one that nobody configured is no help, and no reason not to ask the model."""
    found = []
    for model in plan.settings.fallback_models:
        try:
            found.append(await _prepared(factory, plan, model))
        except AppError as error:
            if error.code in PASSING:
                raise
    return found


async def _prepared(factory: ModelFactory, plan: Plan, model: str) -> ModelSpec:
    settings = plan.settings
    named = ModelSpec(
        model, base_url=settings.base_url, parameters=settings.model_parameters, project_id=plan.project_id
    )
    return await factory.prepared(named, plan.grant)
