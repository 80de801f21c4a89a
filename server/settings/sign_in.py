"""Who may come in, and what programs may ask them for."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Annotated

from pydantic import BeforeValidator

from server.settings.section import Section, variable

Network = IPv4Network | IPv6Network


def _networks(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return tuple(ip_network(part.strip()) for part in value.split(",") if part.strip())
    except ValueError:
        raise ValueError("must be networks such as 10.0.0.0/8, separated by commas") from None


class SignInSettings(Section):
    """Sign-in of people, and of the programs that they let in."""

    trusted_proxies: Annotated[tuple[Network, ...], BeforeValidator(_networks)] = variable(
        "INNKEEPER_TRUSTED_PROXIES",
        default=(),
        description="Networks of reverse proxies whose `X-Forwarded-For` says where a request comes from, separated by "
        "commas. Without it that header is believed from nobody.",
    )
    client_documents: bool = variable(
        "INNKEEPER_CLIENT_DOCUMENTS",
        default=True,
        description="Whether OAuth clients may be known by the document at their client_id, which is fetched from the "
        "internet. Turn it off where this server has no way there: such clients then register themselves.",
    )
