"""who starts a run in its own thread does not thereby escape from being cancelled"""

from __future__ import annotations

import importlib

from alembic import op

revision = "0125"
down_revision = "0124"
branch_labels = None
depends_on = None

BEFORE: str = importlib.import_module("migrations.versions.0124_handed_over").ADMIT_RUN

# As migration 0124 has it, but that only the cancel by which the new run takes its parent's place is passed over: what
# was asked for before this statement holds for whatever the parent starts, wherever.
THREADS = "CASE WHEN r.thread_id <> NEW.thread_id THEN"
EARLIER = "CASE WHEN r.thread_id <> NEW.thread_id OR r.cancel_requested_at < statement_timestamp() THEN"
ADMIT_RUN = BEFORE.replace(THREADS, EARLIER)


def upgrade() -> None:
    op.execute(ADMIT_RUN)


def downgrade() -> None:
    op.execute(BEFORE)
