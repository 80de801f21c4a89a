"""What names a model: its id, where it is, and the tenant's key; checked before anything is imported or sent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from urllib.parse import urlsplit
from uuid import UUID

from db.errors import AppError, invalid

HOW_TO_CONFIGURE = (
    "Name a model (openai:NAME) in the project and give it a key with set_provider_key, set OPENAI_API_KEY for the "
    'server, start Ollama, or pip install ".[local]" for the small local model.'
)
EXAMPLE_URL = "Write it like https://host.example/v1."


@dataclass(frozen=True)
class ModelSpec:
    """What a run says about its model. ``model``: an id as in :mod:`db.model_ids`, empty for the default.

    ``parameters``: temperature and the like, see :mod:`agents.model_settings`. ``api_key`` is the tenant's own.
    ``trusted``: the base URL is of who runs the house; a tenant's is gone to by the guarded client.
    """

    model: str = ""
    base_url: str | None = None
    api_key: str | None = field(default=None, repr=False)
    parameters: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))
    project_id: UUID | None = None
    trusted: bool = False


def check_base_url(base_url: str) -> None:
    """Refuse what is not a plain http(s) address: AppError ``invalid_arguments``."""
    try:
        parts = urlsplit(base_url)
        fine = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        raise invalid("The base URL is not a URL.", EXAMPLE_URL) from None
    if not fine:
        raise invalid("The base URL must start with http:// or https:// and name a host.", EXAMPLE_URL)
    if parts.username is not None or parts.password is not None:
        raise invalid("The base URL must not hold a user name or password.", "Set it as the API key.")
    if parts.query or parts.fragment:
        raise invalid("The base URL must not hold a query or a fragment.", EXAMPLE_URL)


def not_configured(message: str, hint: str) -> AppError:
    return AppError("model_not_configured", 409, message, hint)
