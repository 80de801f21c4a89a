"""Reading the environment into settings, every fault at once and as a sentence."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, MutableMapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from server.settings.files import FileSettings
from server.settings.house import DatabaseSettings, HouseSettings
from server.settings.jobs import JobSettings
from server.settings.limits import LimitSettings
from server.settings.mail import MailSettings
from server.settings.models import PROVIDER_ENVIRONMENT, ModelSettings
from server.settings.outgoing import OutgoingSettings
from server.settings.providers import OAuthSettings
from server.settings.section import Section, variable_names
from server.settings.sign_in import SignInSettings
from server.settings.vendors import (
    AwsSettings,
    LangfuseSettings,
    OTelSettings,
    PostHogSettings,
    SentrySettings,
)

Environment = Literal["production", "development"]

PRODUCTION = ("INNKEEPER_ROOT_SECRET", "INNKEEPER_PUBLIC_URL")
NEEDED = {
    "INNKEEPER_ROOT_SECRET": "at least 32 random bytes, the same on every process",
    "INNKEEPER_PUBLIC_URL": "the address clients use, such as https://innkeeper.example.com",
    "DATABASE_URL": "the application role of a migrated database",
    "DATABASE_OPS_URL": "the ops role of the same database",
    "DATABASE_OWNER_URL": "the role that owns the tables",
}


class SettingsError(Exception):
    """``faults``: one sentence each, naming the variable and what it must be; never its value."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("; ".join(faults))
        self.faults = faults


class Settings(Section):
    """Everything a process is told from outside. Secrets are ``SecretStr``: printing settings shows none."""

    house: HouseSettings = Field(default_factory=HouseSettings)
    database: DatabaseSettings = Field(default_factory=DatabaseSettings)
    limits: LimitSettings = Field(default_factory=LimitSettings)
    outgoing: OutgoingSettings = Field(default_factory=OutgoingSettings)
    jobs: JobSettings = Field(default_factory=JobSettings)
    files: FileSettings = Field(default_factory=FileSettings)
    models: ModelSettings = Field(default_factory=ModelSettings)
    mail: MailSettings = Field(default_factory=MailSettings)
    sign_in: SignInSettings = Field(default_factory=SignInSettings)
    oauth: OAuthSettings = Field(default_factory=OAuthSettings)
    sentry: SentrySettings = Field(default_factory=SentrySettings)
    posthog: PostHogSettings = Field(default_factory=PostHogSettings)
    langfuse: LangfuseSettings = Field(default_factory=LangfuseSettings)
    otel: OTelSettings = Field(default_factory=OTelSettings)
    aws: AwsSettings = Field(default_factory=AwsSettings)

    @property
    def production(self) -> bool:
        return self.house.environment == "production"


def load(
    environ: MutableMapping[str, str],
    *,
    environment: Environment = "production",
    dotenv: Path | None = None,
    required: tuple[str, ...] = (),
) -> Settings:
    """Settings from ``environ``, and from the file ``dotenv`` for what ``environ`` leaves unset.

    ``environment`` is what ``INNKEEPER_ENV`` defaults to; ``required`` must be set. An empty variable counts as
    unset. Keys that a provider's SDK would find by itself are removed from ``environ``. Raises
    :class:`SettingsError` with all faults.
    """
    values = {"INNKEEPER_ENV": environment, **_read_dotenv(dotenv), **_filled(environ)}
    faults = _unknown_names(values)
    settings: Settings | None = None
    try:
        settings = Settings.model_validate(_nested(Settings, values))
    except ValidationError as error:
        faults += [_sentence(_variable(fault["loc"]), fault["msg"]) for fault in error.errors()]
    needed = (*required, *(PRODUCTION if values["INNKEEPER_ENV"] == "production" else ()))
    faults += [f"{name} must be set: {NEEDED[name]}." for name in dict.fromkeys(needed) if name not in values]
    if faults or settings is None:
        raise SettingsError(faults)
    for name in PROVIDER_ENVIRONMENT & environ.keys():
        del environ[name]
    return settings


def sections(root: type[Section] = Settings) -> Iterator[tuple[str, type[Section]]]:
    """Every section that has variables, with its dotted name."""
    for name, field in root.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield name, field.annotation
            for inner, section in sections(field.annotation):
                yield f"{name}.{inner}", section


def known_names() -> set[str]:
    """Every variable that is read."""
    return {
        name
        for _, section in sections()
        for field, info in section.model_fields.items()
        if info.validation_alias is not None
        for name in variable_names(section, field)
    }


def _filled(values: Mapping[str, str | None]) -> dict[str, str]:
    return {name: value.strip() for name, value in values.items() if value and value.strip()}


def _read_dotenv(path: Path | None) -> dict[str, str]:
    if path is None or not path.is_file():
        return {}
    from dotenv import dotenv_values

    try:
        return _filled(dotenv_values(path, interpolate=False))
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(
            [f"{path} cannot be read ({error.__class__.__name__}): make it a readable UTF-8 file."]
        ) from None


def _nested(section: type[Section], values: Mapping[str, str]) -> dict[str, Any]:
    """The values of a section under the names it is validated by, so that faults name the variable."""
    found: dict[str, Any] = {}
    for name, field in section.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            found[name] = _nested(field.annotation, values)
        elif chosen := next((alias for alias in variable_names(section, name) if alias in values), None):
            found[chosen] = values[chosen]
    return found


def _sentence(name: str, message: str) -> str:
    message = message.removeprefix("Value error, ").removeprefix("Input should be ")
    return f"{name} {message}." if message.startswith(("must ", "repeats ")) else f"{name} must be {message}."


def _variable(loc: tuple[int | str, ...]) -> str:
    """The variable at fault; what follows in its place are the parts of a list."""
    return next(part for part in reversed(loc) if isinstance(part, str))


def _unknown_names(values: Mapping[str, str]) -> list[str]:
    """A misspelt setting of our own is a fault, not a silence; other programs' variables are none of our business."""
    known = known_names()
    return [
        f"{name} is not a setting" + (f"; did you mean {near[0]}?" if near else ": remove it, see docs/settings.md.")
        for name in sorted(values)
        if name.startswith("INNKEEPER_") and name not in known
        for near in [difflib.get_close_matches(name, known, 1)]
    ]
