"""Reading the settings, as every command does first."""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from pathlib import Path

from server import logs
from server.refusal import Refusal
from server.settings import Settings, SettingsError, load
from server.settings.loading import Environment


def read_settings(
    *,
    environ: MutableMapping[str, str] | None = None,
    environment: Environment = "production",
    dotenv: Path | None = None,
    required: tuple[str, ...] = (),
) -> Settings:
    """Settings from ``environ`` (the process's), and logs set up by them. Raises :class:`Refusal` with every fault."""
    try:
        settings = load(
            os.environ if environ is None else environ, environment=environment, dotenv=dotenv, required=required
        )
    except SettingsError as error:
        raise Refusal(*error.faults) from None
    logs.configure(settings.house.log_format, settings.house.log_level, secrets=logs.secrets_of(settings))
    return settings
