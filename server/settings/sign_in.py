"""Who may come in, and what programs may ask them for."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, ValidationInfo, field_validator

from server.settings.section import Names, Section, variable

Network = IPv4Network | IPv6Network


def _networks(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return tuple(ip_network(part.strip()) for part in value.split(",") if part.strip())
    except ValueError:
        raise ValueError("must be networks such as 10.0.0.0/8, separated by commas") from None


def _domains(value: tuple[str, ...]) -> tuple[str, ...]:
    for domain in value:
        if "@" in domain or "." not in domain.strip(".") or not domain.isascii() or "*" in domain:
            raise ValueError("must be domains such as example.com, separated by commas")
    return tuple(domain.lower().strip(".") for domain in value)


Domains = Annotated[Names, AfterValidator(_domains)]


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
    allowed_domains: Domains = variable(
        "INNKEEPER_SIGN_UP_DOMAINS",
        default=(),
        description="Domains, separated by commas, whose addresses may sign up with `INNKEEPER_SIGN_UP=domains`. "
        "Subdomains are others.",
    )
    blocked_domains: Domains = variable(
        "INNKEEPER_SIGN_UP_BLOCKED_DOMAINS",
        default=(),
        description="Domains whose addresses may not sign up, whatever else is set; with their subdomains.",
    )
    sign_up: Literal["open", "domains", "invitation"] = variable(
        "INNKEEPER_SIGN_UP",
        default="invitation",
        description="Who may make an account: `open` (whoever has an address), `domains` (those of "
        "`INNKEEPER_SIGN_UP_DOMAINS`), or `invitation` (whom a member of a project has invited, or the operator with "
        "`innkeeper users add`). Accounts that there are may always sign in.",
    )

    @field_validator("sign_up")
    @classmethod
    def _domains_are_named(cls, value: str, info: ValidationInfo) -> str:
        if value == "domains" and not info.data.get("allowed_domains"):
            raise ValueError("must be open or invitation unless INNKEEPER_SIGN_UP_DOMAINS names domains")
        return value

    def may_sign_up(self, address: str) -> bool:
        """Whether whoever reads mail at ``address`` may have an account made."""
        return self.closed_by(address) is None

    def closed_by(self, address: str) -> Literal["domain", "invitation"] | None:
        """What keeps ``address`` from having an account made; ``None``: nothing."""
        domain = address.rpartition("@")[2].lower()
        parts = domain.split(".")
        if any(".".join(parts[first:]) in self.blocked_domains for first in range(len(parts))):
            return "domain"
        if self.sign_up == "domains":
            return None if domain in self.allowed_domains else "domain"
        return None if self.sign_up == "open" else "invitation"
