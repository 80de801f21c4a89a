"""A project's registry, as tests of its tools use it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conftest import Tenant
from tests.tools.project_tools import ProjectTools
from tools.dispatch import Dispatch

PROPS = {"type": "object", "properties": {"heading": {"type": "string"}}, "required": ["heading"]}


def item(name: str = "card", code: str = "export const Card = 1", **more: Any) -> dict[str, Any]:
    file = {"path": f"ui/{name}.tsx", "type": "registry:ui", "content": code}
    return {"name": name, "type": "registry:ui", "files": [file], **more}


class Shelf(ProjectTools):
    """Calls the tools of a project's registry."""

    async def publish(self, name: str = "card", code: str = "export const Card = 1", **more: Any) -> dict[str, Any]:
        """``version``, ``props`` and ``state`` are arguments of the tool; everything else is of the item."""
        given = {argument: more.pop(argument) for argument in ("version", "props", "state") if argument in more}
        return await self.call("publish_component", item=item(name, code, **more), **given)

    async def found(self, query: str = "", **arguments: Any) -> list[str]:
        listed = await self.call("search_components", query=query, **arguments)
        return [one["name"] for one in listed["components"]]


@pytest.fixture
def shelf(dispatch: Dispatch, tenant: Tenant) -> Shelf:
    return Shelf(dispatch, tenant)
