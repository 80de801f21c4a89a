"""Variables of comparable systems that Innkeeper does not read, and what stands in their place."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Replaced:
    name: str
    by: str
    reason: str


REPLACED = (
    Replaced(
        "API_KEY_SECRET", "INNKEEPER_ROOT_SECRET", "API keys are stored as SHA-256 of 256 random bits: no secret."
    ),
    Replaced(
        "PROVIDER_KEY_SECRET",
        "INNKEEPER_ROOT_SECRET",
        "One root secret; the key for stored secrets is derived from it.",
    ),
    Replaced("NEXTAUTH_SECRET", "INNKEEPER_ROOT_SECRET", "One root secret; the key for sessions is derived from it."),
    Replaced("NEXTAUTH_URL", "INNKEEPER_PUBLIC_URL", "One address serves the endpoint, the API and the pages."),
)
