"""Which root secrets a process has."""

from __future__ import annotations

from typing import Final

from server.data_directory import DataDirectory
from server.keyring import Keyring, root_secret_file
from server.refusal import Refusal
from server.settings.house import HouseSettings

SAID: Final = "innkeeper roots="


def process_name(keyring: Keyring) -> str:
    """What a process calls itself to the database, where ``keys rotate`` looks before it seals anything anew."""
    return (SAID + ",".join(keyring.key_ids))[:63]


def roots_said(name: str) -> list[str]:
    """The ids of the roots that a process has, the one it uses first, out of what it calls itself."""
    return name.removeprefix(SAID).split(",")


def keyring_of(house: HouseSettings, data: DataDirectory | None) -> Keyring:
    """The roots that the settings name; without any, those of the data directory, where one is made if need be.

    Those of a data directory are followed when they are replaced. Raises :class:`Refusal` when there is neither.
    """
    if (known := _named(house)) is not None:
        return known
    if data is None:
        raise Refusal("INNKEEPER_ROOT_SECRET must be set: at least 32 random bytes, the same on every process.")
    root_secret_file(data.root_secret)
    return Keyring(read=data.roots)


def known_keyring(house: HouseSettings, data: DataDirectory) -> Keyring | None:
    """The same without making anything; ``None`` when there is no root yet."""
    return _named(house) or (Keyring(read=data.roots) if data.root_secret.exists() else None)


def _named(house: HouseSettings) -> Keyring | None:
    if house.root_secret is None:
        return None
    roots = (house.root_secret, *house.other_root_secrets)
    return Keyring(*(root.get_secret_value().encode() for root in roots))
