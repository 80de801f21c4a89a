"""A project's files, as tests of its tools use them: bytes are sent to its store as a client would."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from db import files
from tests.conftest import Tenant
from tests.fakes.memory_store import MemoryStore
from tests.tools.project_tools import ProjectTools
from tools.dispatch import Dispatch
from tools.ports import Services, StorageRules


class Desk(ProjectTools):
    """Calls the tools of a project, and sends bytes to its store as a client would."""

    def __init__(self, dispatch: Dispatch, tenant: Tenant, store: MemoryStore) -> None:
        super().__init__(dispatch, tenant)
        self.store = store

    def send(self, file_id: str, data: bytes) -> None:
        self.store.send(self.key(file_id), data)

    def key(self, file_id: str) -> str:
        return files.key(self.tenant.project_id, UUID(file_id), temporary=False)

    async def file(self, path: str, data: bytes = b"text", **arguments: Any) -> str:
        """A file that is ready; its id."""
        arguments = {"content_type": "text/plain", **arguments}
        made = await self.call("create_upload", path=path, size=len(data), **arguments)
        self.send(made["id"], data)
        assert (await self.call("confirm_upload", file_id=made["id"]))["status"] == "ready"
        return str(made["id"])


@pytest.fixture
def desk(dispatch: Dispatch, tenant: Tenant, store: MemoryStore) -> Desk:
    return Desk(dispatch, tenant, store)


@pytest.fixture
def with_rules(services: Services, tenant: Tenant, store: MemoryStore) -> Any:
    def made(**rules: int) -> Desk:
        return Desk(Dispatch(replace(services, storage=StorageRules(**rules))), tenant, store)

    return made
