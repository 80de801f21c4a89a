"""Backup and restore of one installation: embedded or managed database, secrets, stored files."""

from db.backup.archive import verify
from db.backup.dump import backup
from db.backup.manifest import Manifest
from db.backup.restore import restore

__all__ = ["Manifest", "backup", "restore", "verify"]
