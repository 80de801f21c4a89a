"""The one list of all tools and resources. Listings, documentation, snapshots and the tenancy test come from it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from db.principal import Principal
from tools import projects
from tools.contract import ResourceSpec, ToolSpec


@dataclass(frozen=True, slots=True)
class ListedTool:
    """A tool as one caller sees it. ``annotations``: the MCP ToolAnnotations as JSON."""

    name: str
    title: str
    description: str
    input_schema: dict[str, Any]
    output_schema: dict[str, Any]
    annotations: dict[str, Any]


class Catalog:
    """Tools and resources by name. What a caller sees depends on its scopes and binding only, never on a connection."""

    def __init__(self, tools: Iterable[ToolSpec], resources: Iterable[ResourceSpec] = ()) -> None:
        self.tools = tuple(tools)
        self.resources = tuple(resources)
        self._by_name = {spec.name: spec for spec in self.tools}
        if len(self._by_name) != len(self.tools):
            raise ValueError("two tools have the same name")
        self._listings: dict[tuple[frozenset[str], bool, bool], tuple[ListedTool, ...]] = {}

    def tool(self, name: str) -> ToolSpec | None:
        return self._by_name.get(name)

    def visible(self, principal: Principal) -> tuple[ListedTool, ...]:
        """The tools a caller (already narrowed by its connection) may call, in the order of the catalog."""
        key = (principal.scopes & self._scopes, principal.read_only, principal.project_id is not None)
        listing = self._listings.get(key)
        if listing is None:
            listing = self._listings[key] = tuple(
                self._listed(spec, principal) for spec in self.tools if visible(spec, principal)
            )
        return listing

    def visible_resources(self, principal: Principal) -> tuple[ResourceSpec, ...]:
        return tuple(spec for spec in self.resources if principal.may(spec.scope))

    @cached_property
    def _scopes(self) -> frozenset[str]:
        return frozenset(spec.scope.value for spec in self.tools)

    def _listed(self, spec: ToolSpec, principal: Principal) -> ListedTool:
        return ListedTool(
            name=spec.name,
            title=spec.title,
            description=spec.description,
            input_schema=spec.input_schema if principal.project_id is None else spec.narrowed_schema(),
            output_schema=spec.output_schema,
            annotations={
                "title": spec.title,
                "readOnlyHint": spec.hints.read_only,
                "destructiveHint": spec.hints.destructive,
                "idempotentHint": spec.hints.idempotent,
                "openWorldHint": spec.hints.open_world,
            },
        )


def visible(spec: ToolSpec, principal: Principal) -> bool:
    """Whether a caller may see and call a tool: the scope, read-only over everything, and no binding in its way."""
    return principal.may(spec.scope) and not (spec.account_wide and principal.project_id is not None)


CATALOG = Catalog(
    tools=(
        projects.list_projects,
        projects.get_project,
        projects.create_project,
        projects.update_project,
        projects.delete_project,
    ),
    resources=(projects.project,),
)
