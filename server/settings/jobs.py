"""How jobs are worked off, by `innkeeper up` and `innkeeper worker`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from server.settings.section import Section, variable


class JobSettings(Section):
    """One process; any number of them share the work."""

    places: Annotated[int, Field(ge=1, le=1000)] = variable(
        "INNKEEPER_JOB_PLACES",
        default=10,
        description="Jobs that a process works on at a time, at most half of them of one project.",
    )
    lease_seconds: Annotated[float, Field(ge=1, le=300)] = variable(
        "INNKEEPER_JOB_LEASE_SECONDS",
        default=4.0,
        description="How long a job stays with a process that gives no sign of life; then another takes it over.",
    )
