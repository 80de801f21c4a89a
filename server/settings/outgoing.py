"""Where the house goes for its tenants: to the public internet, unless its operator opens more."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Annotated

from pydantic import BeforeValidator

from server.integrations.addresses import PRIVATE, Network
from server.settings.section import Section, variable

_ALL = ("1", "true", "yes", "on")
_NONE = ("0", "false", "no", "off")


def _networks(value: object) -> object:
    if not isinstance(value, str):
        return value
    if value.lower() in (*_ALL, *_NONE):
        return PRIVATE if value.lower() in _ALL else ()
    try:
        return tuple(ip_network(part.strip()) for part in value.split(",") if part.strip())
    except ValueError:
        raise ValueError("must be true, false, or networks such as 192.168.1.0/24, separated by commas") from None


class OutgoingSettings(Section):
    """Addresses that tenants give are gone to by one guarded client."""

    private: Annotated[tuple[Network, ...], BeforeValidator(_networks)] = variable(
        "INNKEEPER_ALLOW_PRIVATE_URLS",
        default=(),
        description="Lets tenants name addresses that are not public, such as a model server in your network: networks "
        "separated by commas, or `true` for loopback and every private range. Everyone who may change a project can "
        "then reach what this machine reaches there; `doctor` warns. Link-local and metadata addresses stay closed.",
    )
