"""What models need from the rest of the house, as small protocols that ``server`` fills, and from a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol
from uuid import UUID

from agents.model_spec import ModelSpec

if TYPE_CHECKING:
    import httpx2

    from db.principal import Principal


@dataclass(frozen=True)
class LocalEndpoint:
    """Where the local model listens: an OpenAI-compatible ``base_url`` (ending in ``/v1``) on loopback."""

    base_url: str
    name: str
    api_key: str = field(repr=False)


class LocalModelPort(Protocol):
    """The local model as the server offers it."""

    async def ready(self, timeout: float) -> LocalEndpoint:
        """Wait at most ``timeout`` seconds until it answers; raise AppError with the reason if it does not."""
        ...


class TenantEndpoints(Protocol):
    """The way to the base URLs that tenants give."""

    def check(self, url: str) -> None:
        """Raises AppError ``url_not_allowed`` for one that is refused whatever its host resolves to."""
        ...

    def for_models(self) -> httpx2.AsyncClient:
        """A client that goes to tenants' endpoints and nowhere inside. The caller closes it."""
        ...


class TenantKeys(Protocol):
    """The keys that projects pay their models with."""

    async def find(self, grant: Principal, project_id: UUID, provider: str, base_url: str | None) -> str | None:
        """The project's own key, ``None`` without one. ``provider``: ``compatible`` for what is at ``base_url``."""
        ...


class RunsAModel(Protocol):
    """The dependencies of a run whose model id :meth:`ModelFactory.of_run` resolves."""

    @property
    def model_spec(self) -> ModelSpec: ...

    @property
    def fallbacks(self) -> Sequence[ModelSpec]:
        """What to ask in turn when the model fails before it says anything."""
        ...
