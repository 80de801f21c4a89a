"""Every kind of job there is. How to add one: docs/how-to-add-a-job.md."""

from __future__ import annotations

from typing import Final

from server.jobs.cleaning import clean_up
from server.jobs.job import Job

JOBS: Final = (Job("clean_up", clean_up, schedule="*/10 * * * *"),)
