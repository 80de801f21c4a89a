"""The vault alone: what it seals opens where it was sealed, under a root that is known, and nowhere else."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from db.errors import AppError
from server.keyring import Keyring
from server.vault import Vault, key_id_of

pytestmark = pytest.mark.promise("GND-03")

OLD, NEW = b"the root before, of some length", b"the root that is in use, of some length"
VAULT = Vault(Keyring(NEW))
PROJECT = UUID(int=1)
COLUMN = "provider_keys.sealed"


def refused(
    vault: Vault, sealed: bytes, project: UUID = PROJECT, column: str = COLUMN, row: str = "openai"
) -> AppError:
    with pytest.raises(AppError) as caught:
        vault.open(project, column, sealed, row)
    return caught.value


@given(st.text(), st.uuids(), st.text(max_size=20))
def test_a_secret_opens_where_it_was_sealed_and_says_nothing_there(text: str, project: UUID, row: str) -> None:
    sealed = VAULT.seal(project, COLUMN, text, row)

    assert VAULT.open(project, COLUMN, sealed, row) == text
    assert len(sealed) == 1 + 4 + 12 + len(text.encode()) + 16
    if len(text) > 3:
        assert text.encode() not in sealed
    assert VAULT.seal(project, COLUMN, text, row) != sealed


def test_a_secret_opens_in_no_other_project_column_or_row() -> None:
    sealed = VAULT.seal(PROJECT, COLUMN, "sk-secret", "openai")

    elsewhere = [
        refused(VAULT, sealed, project=uuid4()),
        refused(VAULT, sealed, column="other.sealed"),
        refused(VAULT, sealed, row="anthropic"),
        refused(VAULT, sealed, row=""),
        refused(VAULT, sealed, column=COLUMN + "\x00openai", row=""),
    ]
    assert {error.code for error in elsewhere} == {"secret_damaged"}


@given(st.data())
def test_a_secret_that_was_changed_anywhere_does_not_open(data: st.DataObject) -> None:
    sealed = bytearray(VAULT.seal(PROJECT, COLUMN, "sk-secret", "openai"))
    at = data.draw(st.integers(0, len(sealed) - 1))
    sealed[at] ^= 1 << data.draw(st.integers(0, 7))

    error = refused(VAULT, bytes(sealed))
    assert error.code == ("secret_key_missing" if 1 <= at < 5 else "secret_damaged")
    assert "sk-secret" not in f"{error.message} {error.hint}"


@given(st.binary(max_size=60))
def test_what_was_never_sealed_does_not_open(data: bytes) -> None:
    assert refused(VAULT, data).code in ("secret_damaged", "secret_key_missing")


def test_the_root_before_is_accepted_and_a_missing_one_is_named() -> None:
    sealed = Vault(Keyring(OLD)).seal(PROJECT, COLUMN, "sk-secret", "openai")

    both = Vault(Keyring(NEW, OLD))
    assert both.open(PROJECT, COLUMN, sealed, "openai") == "sk-secret"
    assert key_id_of(both.seal(PROJECT, COLUMN, "x")) == Keyring(NEW).key_id
    error = refused(VAULT, sealed)
    assert error.code == "secret_key_missing"
    assert Keyring(OLD).key_id in error.message
    assert "INNKEEPER_OTHER_ROOT_SECRETS" in error.hint
    assert "keys rotate" in error.hint


def test_the_encryption_is_what_the_standard_says() -> None:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    sealed = VAULT.seal(PROJECT, COLUMN, "sk-secret", "openai")

    key = Keyring(NEW).derive("vault")
    assert len(key) == 32
    bound = sealed[:5] + PROJECT.bytes + COLUMN.encode() + b"\x00openai"
    assert AESGCM(key).decrypt(sealed[5:17], sealed[17:], bound) == b"sk-secret"
