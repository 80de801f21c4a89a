from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from server.keyring import Keyring, root_secret_file, write_once


def test_each_label_has_its_own_key_and_always_the_same() -> None:
    ring = Keyring(b"r" * 32)
    assert ring.derive("files") == Keyring(b"r" * 32).derive("files")
    assert len({ring.derive("files"), ring.derive("sessions"), Keyring(b"s" * 32).derive("files")}) == 3
    assert ring.derive("files", 16) == ring.derive("files")[:16]


def test_derivation_is_hkdf_sha256_so_that_other_tools_can_repeat_it() -> None:
    expected = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"innkeeper/files").derive(b"r" * 32)
    assert Keyring(b"r" * 32).derive("files") == expected


def test_printing_a_keyring_names_the_root_and_does_not_tell_it() -> None:
    ring = Keyring(b"root-root-root-root-root-root-root")
    assert repr(ring) == f"Keyring({ring.key_id})"


def test_the_root_secret_is_made_once_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "root_secret"
    first = root_secret_file(path)
    assert root_secret_file(path) == first
    assert len(first.encode()) >= 32
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_exists_is_never_overwritten(tmp_path: Path) -> None:
    assert write_once(tmp_path / "file", "one")
    assert not write_once(tmp_path / "file", "two")
    assert (tmp_path / "file").read_text() == "one"
