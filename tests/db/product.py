"""A product with users of its own, as its project has them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

import pytest_asyncio

from db import accounts, end_users
from db.credentials import Authenticator
from db.database import Database
from db.ids import uuid7
from db.principal import Principal
from tests.conftest import Owner, Tenant

if TYPE_CHECKING:
    pass

PAGE = "https://app.example.com"


@dataclass(frozen=True)
class Product:
    """A project with a publishable key, and two of its users."""

    tenant: Tenant
    key_id: UUID
    key: str
    ann: Principal
    ben: Principal


@pytest_asyncio.fixture
async def product(owner: Owner, database: Database, tenant: Tenant, authenticator: Authenticator) -> Product:
    key_id, key = await accounts.create_publishable_key(owner, tenant.user_id, tenant.project_id, origins=[PAGE])
    users = []
    for name in ("ann", "ben"):
        issued = await end_users.issue(database, key, tenant.project_id, issuer="https://idp.test", name=name)
        found = await authenticator.authenticate(issued.token)
        assert found is not None
        users.append(found)
    return Product(tenant, key_id, key, *users)


async def belongings(owner: Owner, project: UUID, whose: Principal | None) -> dict[str, UUID]:
    """A row of every table in which an end user can own one; those of nobody's without ``whose``."""
    end_user = None if whose is None else whose.end_user_id
    thread, run, file, mail = (uuid7() for _ in range(4))
    credential, user = uuid7(), uuid7()
    await owner.execute(
        "INSERT INTO threads (project_id, id, end_user_id, external_id) VALUES ($1, $2, $3, 'talk')",
        *(project, thread, end_user),
    )
    await owner.execute(
        "INSERT INTO runs (project_id, id, thread_id, end_user_id, external_id, credential_id, user_id, agent,"
        " input_digest) VALUES ($1, $2, $3, $4, 'run', $5, $6, 'default', '')",
        *(project, run, thread, end_user, credential, user),
    )
    await owner.execute(
        "INSERT INTO messages (project_id, id, thread_id, run_id, end_user_id, position, role)"
        " VALUES ($1, $2, $3, $4, $5, 1, 'user')",
        *(project, uuid7(), thread, run, end_user),
    )
    await owner.execute(
        "INSERT INTO run_events (project_id, run_id, seq, end_user_id, event) VALUES ($1, $2, 1, $3, '')",
        *(project, run, end_user),
    )
    await owner.execute(
        "INSERT INTO run_steps (project_id, run_id, name, end_user_id, seq, value) VALUES ($1, $2, 'a', $3, 1, '')",
        *(project, run, end_user),
    )
    await owner.execute(
        "INSERT INTO files (project_id, id, end_user_id, path, size, content_type, status, created_by, credential_id)"
        " VALUES ($1, $2, $3, 'notes.txt', 5, 'text/plain', 'ready', $4, $5)",
        *(project, file, end_user, user, credential),
    )
    return {"thread": thread, "run": run, "file": file, "mail": mail}
