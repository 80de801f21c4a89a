"""What every process of the production shape needs from the settings."""

from __future__ import annotations

from server.data_directory import DatabaseUrls
from server.settings.house import DatabaseSettings

REQUIRED = ("DATABASE_URL", "DATABASE_OPS_URL", "INNKEEPER_ROOT_SECRET")


def urls_of(settings: DatabaseSettings) -> DatabaseUrls:
    """The unprivileged URLs; the owner's is not handed on, even where it is set."""
    if settings.url is None or settings.ops_url is None:
        raise RuntimeError("both URLs are required")
    direct = settings.direct_url
    return DatabaseUrls(
        settings.url.get_secret_value(),
        settings.ops_url.get_secret_value(),
        direct=direct.get_secret_value() if direct else None,
    )
