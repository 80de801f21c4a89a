"""Every kind of job there is. How to add one: docs/how-to-add-a-job.md."""

from __future__ import annotations

from typing import Final

from db.storekeeping import ARRIVED, DELETE, REMOVED
from server.jobs.cleaning import clean_up
from server.jobs.files import delete_files, expire_files, file_arrived, file_removed
from server.jobs.files_check import CHECK, check_files, check_store, erase_objects
from server.jobs.identities import look_at_identities, recheck_identity
from server.jobs.job import Job, exponential
from server.jobs.registry_check import CHECK as REGISTRY_CHECK
from server.jobs.registry_check import check_contents
from server.jobs.registry_meanings import find_meanings, look_for_meanings
from server.jobs.registry_sync import registry_sync_job
from server.jobs.thread_names import name_threads
from server.mail.delivery import deliver_email
from server.mail.house_delivery import deliver_house_mail, join_audience
from tools.publishing import MEANINGS_JOB

LONG: Final = 3600.0
FOR_HOURS: Final = exponential(5.0, times=12)
"""For what fails because our own database is away: mail has waits of its own for what others refuse."""

JOBS: Final = (
    Job("clean_up", clean_up, schedule="*/10 * * * *"),
    Job(DELETE, delete_files, timeout=LONG),
    Job(ARRIVED, file_arrived, timeout=LONG),
    Job(REMOVED, file_removed),
    Job("objects_erase", erase_objects, timeout=LONG),
    Job("files_expire", expire_files, schedule="5-55/10 * * * *"),
    Job(CHECK, check_files, timeout=LONG),
    Job("store_check", check_store, timeout=LONG, schedule="17 3 * * *"),
    Job("name_threads", name_threads),
    Job("deliver_email", deliver_email, retries=FOR_HOURS, timeout=300.0),
    Job("deliver_house_mail", deliver_house_mail, retries=FOR_HOURS, timeout=300.0),
    Job("join_audience", join_audience),
    registry_sync_job(),
    Job(REGISTRY_CHECK, check_contents, timeout=LONG),
    Job(MEANINGS_JOB, find_meanings, timeout=600.0),
    Job("look_for_meanings", look_for_meanings, schedule="41 * * * *"),
    Job("look_at_identities", look_at_identities, schedule="23 * * * *"),
    Job("recheck_identity", recheck_identity, retries=exponential(30.0, times=4)),
)
