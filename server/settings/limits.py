"""How much one key and one project may ask of the house, so that nobody's flood is another's outage."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from server.settings.section import Section, variable

Rate = Annotated[float, Field(ge=0, le=1_000_000)]
Places = Annotated[int, Field(ge=0, le=1_000_000)]

IN_DEVELOPMENT = 10
"""In development, where everything is one person's, there is this much more of everything that is not set."""


class LimitSettings(Section):
    """Rates hold for all processes together, places for each process. ``0`` turns a limit off."""

    rate_per_key: Rate | None = variable(
        "INNKEEPER_RATE_PER_KEY",
        description="Requests a second of one key, on average; `0`: no limit. Default: 100, in development 1000.",
    )
    rate_per_project: Rate | None = variable(
        "INNKEEPER_RATE_PER_PROJECT",
        description="The same for one project, whoever calls. Default: 200, in development 2000.",
    )
    burst_seconds: Annotated[float, Field(ge=1, le=3600)] = variable(
        "INNKEEPER_RATE_BURST_SECONDS",
        default=10.0,
        description="How many seconds' worth of requests may come at once after a silence.",
    )
    calls_per_key: Places | None = variable(
        "INNKEEPER_CALLS_PER_KEY",
        description="Calls of one key that a process works on at a time; more wait in line. `0`: no limit. "
        "Default: 8, in development 80.",
    )
    calls_per_project: Places | None = variable(
        "INNKEEPER_CALLS_PER_PROJECT",
        description="The same for one project, whoever calls. Default: 16, in development 160.",
    )
    streams_per_key: Places | None = variable(
        "INNKEEPER_STREAMS_PER_KEY",
        description="Runs and other long answers of one key that a process has open; more are refused. `0`: no limit. "
        "Default: 200, in development 2000.",
    )
    streams_per_project: Places | None = variable(
        "INNKEEPER_STREAMS_PER_PROJECT",
        description="The same for one project, whoever calls. Default: 400, in development 4000.",
    )
