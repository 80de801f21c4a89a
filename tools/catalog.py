"""The one list of all tools, resources and prompts. Listings, documentation, snapshots and tests come from it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from db.errors import invalid
from db.principal import Principal
from tools import (
    agents,
    audit,
    budgets,
    contacts,
    emails,
    end_users,
    file_resources,
    files,
    invitations,
    members,
    mistakes,
    projects,
    provider_keys,
    registry,
    registry_resources,
    runs,
    sync,
    templates,
    threads,
    workflows,
)
from tools.contract import ToolSpec
from tools.prompts import PromptSpec
from tools.resources import ResourceSpec

LISTINGS: Final = 1024


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
    """Tools, resources and prompts by name. What a caller sees depends on scopes and binding, not on a session."""

    def __init__(
        self,
        tools: Iterable[ToolSpec],
        resources: Iterable[ResourceSpec] = (),
        prompts: Iterable[PromptSpec] = (),
        *,
        on_request: Iterable[str] = (),
    ) -> None:
        """``on_request``: families that are offered only to connections that name them in ``?tools=``."""
        self.tools = tuple(tools)
        self.resources = tuple(resources)
        self.prompts = tuple(prompts)
        self.families = frozenset(spec.family for spec in self.tools)
        self.default_families = self.families - frozenset(on_request)
        names = [(name, spec) for spec in self.tools for name in (spec.name, *spec.aliases)]
        self._by_name = dict(names)
        if len(self._by_name) != len(names):
            raise ValueError("two tools have the same name")
        self._listings: dict[tuple[object, ...], tuple[ListedTool, ...]] = {}

    def tool(self, name: str) -> ToolSpec | None:
        return self._by_name.get(name)

    def visible(self, principal: Principal, families: frozenset[str] | None = None) -> tuple[ListedTool, ...]:
        """The tools a caller (already narrowed by its connection) may call, in the order of the catalog.

        The same tuple for the same rights, so that an edge may keep what it made of it.
        """
        offered = self.offered(families)
        bound = principal.project_id is not None
        rights = (principal.scopes & self._scopes, principal.read_only, principal.account_wide, principal.tools)
        key = (*rights, bound, offered)
        listing = self._listings.get(key)
        if listing is None:
            listing = tuple(
                self._listed(spec, principal)
                for spec in self.tools
                if offers(offered, spec, principal) and visible(spec, principal)
            )
            if len(self._listings) >= LISTINGS:
                self._listings.clear()
            self._listings[key] = listing
        return listing

    def offered(self, families: frozenset[str] | None) -> frozenset[str]:
        """The families a connection gets. Raises ``AppError`` for one there is not."""
        if families is None:
            return self.default_families
        unknown = families - self.families
        if unknown or not families:
            named = f"no family of tools: {', '.join(sorted(unknown))[:80]}" if unknown else "nothing"
            raise invalid(f"?tools= names {named}.", f"Families are {', '.join(sorted(self.families))}.")
        return families

    def visible_resources(self, principal: Principal) -> tuple[ResourceSpec, ...]:
        return tuple(spec for spec in self.resources if principal.may(spec.scope))

    def visible_prompts(self, principal: Principal, families: frozenset[str] | None = None) -> tuple[PromptSpec, ...]:
        """The prompts whose tools this caller may all call."""
        offered = self.offered(families)
        return tuple(
            spec
            for spec in self.prompts
            if all(offers(offered, used, principal) and visible(used, principal) for used in spec.uses)
        )

    def prompt(self, principal: Principal, name: str, families: frozenset[str] | None = None) -> PromptSpec:
        """The prompt ``name``. Raises ``AppError`` for one that this caller does not see."""
        for spec in self.visible_prompts(principal, families):
            if spec.name == name:
                return spec
        raise mistakes.unknown_prompt(name, [spec.name for spec in self.visible_prompts(principal, families)])

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
    if principal.tools is not None and spec.name not in principal.tools:
        return False
    return principal.may(spec.scope) and (principal.account_wide or not spec.account_wide)


def offers(families: frozenset[str], spec: ToolSpec, principal: Principal) -> bool:
    """Whether a connection that chose ``families`` has the tool. A run's agent has those that its row names, of
    whatever family: nobody chooses families for it."""
    return spec.family in families or (principal.tools is not None and spec.name in principal.tools)


CATALOG = Catalog(
    tools=(
        projects.list_projects,
        projects.get_project,
        projects.create_project,
        projects.update_project,
        projects.delete_project,
        files.list_files,
        files.get_file,
        files.create_upload,
        files.confirm_upload,
        files.delete_file,
        runs.start_run,
        runs.get_run,
        runs.cancel_run,
        threads.list_threads,
        threads.get_thread,
        threads.delete_thread,
        runs.list_agents,
        end_users.list_end_users,
        end_users.delete_end_user,
        agents.get_agent,
        agents.create_agent,
        agents.update_agent,
        agents.delete_agent,
        budgets.get_usage,
        budgets.set_budgets,
        provider_keys.list_provider_keys,
        provider_keys.set_provider_key,
        provider_keys.delete_provider_key,
        registry.search_components,
        registry.get_component,
        registry.publish_component,
        registry.set_component_status,
        emails.send_email,
        emails.get_email,
        emails.list_emails,
        emails.cancel_email,
        contacts.upsert_contact,
        contacts.list_contacts,
        contacts.subscribe_contact,
        contacts.unsubscribe_contact,
        contacts.list_suppressions,
        contacts.lift_suppression,
        templates.save_template,
        templates.list_templates,
        templates.get_template,
        templates.delete_template,
        sync.list_registry_sources,
        sync.create_registry_source,
        sync.delete_registry_source,
        sync.sync_registry_source,
        sync.list_registry_syncs,
        sync.get_registry_sync,
        members.list_members,
        members.update_member,
        members.remove_member,
        members.leave_project,
        members.transfer_project,
        invitations.list_invitations,
        invitations.invite_member,
        invitations.resend_invitation,
        invitations.revoke_invitation,
        audit.list_audit_entries,
    ),
    resources=(
        projects.project,
        file_resources.file,
        file_resources.file_at_path,
        emails.email,
        registry_resources.component_list,
        registry_resources.component,
        registry_resources.component_version,
        registry_resources.component_file,
    ),
    prompts=workflows.PROMPTS,
    on_request=(
        *("agents", "audit", "budgets", "contacts", "end_users", "members", "provider_keys", "sync", "templates"),
    ),
)
