"""Who is calling: the one value that every edge makes from a credential and that every layer below trusts."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, replace
from uuid import UUID

from db.scopes import MANAGING_SCOPES, READ_SCOPES


@dataclass(frozen=True, slots=True)
class Principal:
    """A caller and its rights.

    ``project_id`` is the credential's binding: ``None`` means every project of the user, or those of ``project_ids``
    when it names any. ``end_user_id`` narrows to one end user of that project. With ``run_id`` set this is a *run
    grant*: the caller's own rights, cut to what an agent may use, lent to one run at ``run_depth`` under the lease of
    ``run_epoch``. ``tools``: the names of the only tools that may be called; ``None`` for all that the scopes allow.
    ``origins``: of the only pages that a publishable key, or what an end user has by one, may be used on.
    """

    credential_id: UUID
    user_id: UUID
    project_id: UUID | None
    end_user_id: UUID | None
    scopes: frozenset[str]
    kind: str = "secret"
    read_only: bool = False
    run_id: UUID | None = None
    run_depth: int = 0
    run_epoch: int = 0
    tools: frozenset[str] | None = None
    project_ids: frozenset[UUID] = frozenset()
    origins: frozenset[str] | None = None

    @property
    def account_wide(self) -> bool:
        """Whether it is bound to no project at all, and so may make new ones."""
        return self.project_id is None and not self.project_ids

    def may(self, scope: str) -> bool:
        """Whether the caller holds ``scope``; a read-only caller never holds one that writes."""
        return scope in self.scopes and (not self.read_only or scope in READ_SCOPES)

    def narrowed(
        self, *, scopes: Set[str] | None = None, project_id: UUID | None = None, read_only: bool = False
    ) -> Principal:
        """The same caller with fewer rights. Never widens: scopes are intersected, an existing binding stays."""
        return replace(
            self,
            scopes=self.scopes if scopes is None else self.scopes & scopes,
            project_id=self.project_id or project_id,
            read_only=self.read_only or read_only,
        )

    def for_run(
        self, run_id: UUID, *, depth: int, epoch: int, scopes: Set[str] | None = None, tools: Set[str] | None = None
    ) -> Principal:
        """The grant a run carries into its own tool calls; never with a scope that manages.

        ``scopes``: what the agent lends. To an end user it lends exactly these, since end users hold none of their own
        for it; from every other caller's rights it only takes away. ``tools``: the only ones the agent may use. A run
        started by a run may use no tool that its starter may not.
        """
        held = self.scopes if scopes is None else frozenset(scopes)
        if self.end_user_id is None:
            held &= self.scopes
        mine = self.tools
        if tools is not None:
            mine = frozenset(tools) if mine is None else mine & tools
        return replace(self, scopes=held - MANAGING_SCOPES, run_id=run_id, run_depth=depth, run_epoch=epoch, tools=mine)
