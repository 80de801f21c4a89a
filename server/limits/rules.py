"""The limits of a process as numbers, made from its settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from db.budgets import Budget
from server.settings.limits import IN_DEVELOPMENT, LimitSettings

if TYPE_CHECKING:
    from server.settings.loading import Settings


@dataclass(frozen=True, slots=True)
class Share:
    """What one key, or one project, may use. ``None`` and 0: without a limit."""

    budget: Budget | None
    calls: int
    streams: int


@dataclass(frozen=True, slots=True)
class Rules:
    key: Share
    project: Share


KEY: Final = (100.0, 8, 200)
PROJECT: Final = (200.0, 16, 400)


def rules_of(settings: Settings) -> Rules:
    """The rules that ``settings`` ask for."""
    told = settings.limits
    more = 1 if settings.production else IN_DEVELOPMENT
    return Rules(
        _share(told, KEY, more, told.rate_per_key, told.calls_per_key, told.streams_per_key),
        _share(told, PROJECT, more, told.rate_per_project, told.calls_per_project, told.streams_per_project),
    )


def _share(
    told: LimitSettings,
    default: tuple[float, int, int],
    more: int,
    rate: float | None,
    calls: int | None,
    streams: int | None,
) -> Share:
    each_second = default[0] * more if rate is None else rate
    burst = max(1.0, each_second * told.burst_seconds)
    return Share(
        Budget(each_second, burst) if each_second else None,
        default[1] * more if calls is None else calls,
        default[2] * more if streams is None else streams,
    )
