"""The tools of one project, as tests call them: through dispatch, by its owner unless another is named."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest

from db.errors import AppError
from db.principal import Principal
from tests.conftest import Tenant
from tools.dispatch import Dispatch
from tools.narrowing import EVERYTHING, Narrowing


class ProjectTools:
    narrowing: ClassVar[Narrowing] = EVERYTHING

    def __init__(self, dispatch: Dispatch, tenant: Tenant) -> None:
        self.dispatch = dispatch
        self.tenant = tenant

    async def call(
        self, tool: str, /, *, key: str | None = None, by: Principal | None = None, **arguments: Any
    ) -> dict[str, Any]:
        given = {"project_id": str(self.tenant.project_id), **arguments}
        outcome = await self.dispatch.call(
            by or self.tenant.principal, tool, given, narrowing=self.narrowing, idempotency_key=key
        )
        return outcome.structured

    async def refused(self, tool: str, /, **arguments: Any) -> AppError:
        with pytest.raises(AppError) as caught:
            await self.call(tool, **arguments)
        return caught.value
