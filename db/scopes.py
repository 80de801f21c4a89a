"""What a credential may do: a scope names one family and one verb, written as an OAuth scope token (RFC 6749 3.3)."""

from __future__ import annotations

from enum import StrEnum


class Scope(StrEnum):
    agents_read = "agents:read"
    agents_write = "agents:write"
    projects_read = "projects:read"
    projects_write = "projects:write"
    runs_read = "runs:read"
    runs_write = "runs:write"
    storage_read = "storage:read"
    storage_write = "storage:write"
    registry_read = "registry:read"
    registry_write = "registry:write"
    email_read = "email:read"
    email_write = "email:write"
    members_read = "members:read"
    members_write = "members:write"
    audit_read = "audit:read"

    @property
    def writes(self) -> bool:
        """Whether the scope changes anything: a read-only caller never holds such a scope."""
        return self.value.endswith(":write")


ALL_SCOPES: frozenset[str] = frozenset(scope.value for scope in Scope)
READ_SCOPES: frozenset[str] = frozenset(scope.value for scope in Scope if not scope.writes)
MANAGING_SCOPES: frozenset[str] = frozenset({Scope.agents_write.value, Scope.members_write.value})
"""What no run is ever lent: with these an agent could give itself, or another one, more than its caller meant."""
LENT_TO_END_USERS: frozenset[str] = frozenset(
    {Scope.registry_read.value, Scope.storage_read.value, Scope.storage_write.value}
)
"""What an agent that names no scopes lends to the runs of end users: the registry to read, and their own files."""
HELD_BY_END_USERS: frozenset[str] = frozenset(
    {Scope.runs_read.value, Scope.runs_write.value, Scope.storage_read.value, Scope.storage_write.value}
)
"""What an end user may do by a token of theirs: talk to agents in their own threads, and keep their own files."""
