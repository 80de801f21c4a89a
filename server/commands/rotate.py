"""``innkeeper keys rotate``: a new root secret, and everything sealed brought under it, while the house serves."""

from __future__ import annotations

import json
from argparse import Namespace
from typing import TYPE_CHECKING

from db import operator_acts
from server.commands.backup import own_directory
from server.data_directory import DataDirectory
from server.keyring import Keyring, new_root, replace
from server.owner import owner_connection
from server.refusal import Refusal
from server.roles import inspect
from server.roots import SAID, keyring_of, roots_said
from server.rotation import Resealed, reseal, under_other_roots
from server.schema import SchemaState, schema_state
from server.settings import Settings
from server.terminal import Progress, note, progress, put
from server.vault import Vault

if TYPE_CHECKING:
    from server.roles import Connection


async def rotate(settings: Settings, arguments: Namespace) -> int:
    """Where settings name the roots, they are the operator's to change, and this brings everything under the first;
    in a data directory it makes a new one first, unless an earlier rotation was broken off and is to be ended."""
    say = progress()
    data = own_directory(settings, arguments.data)
    async with owner_connection(settings, arguments.data, say) as owner:
        await _require_schema(owner)
        if data is None or settings.house.root_secret is not None:
            keyring = keyring_of(settings.house, None)
            done = await _under_named_root(owner, keyring, arguments, say)
        else:
            keyring = keyring_of(settings.house, data)
            done = await _under_new_root(owner, data, keyring, arguments, say)
        await operator_acts.note(owner, "root_secret:rotated", keyring.key_id)
    _tell(arguments, keyring, done)
    return 0


async def _require_schema(owner: Connection) -> None:
    facts = await inspect(owner)
    if schema_state(facts.revision) in (SchemaState.absent, SchemaState.behind):
        raise Refusal(f"The schema is at {facts.revision}, too old: run 'innkeeper migrate' first.")


async def _under_named_root(owner: Connection, keyring: Keyring, arguments: Namespace, say: Progress) -> Resealed:
    if arguments.forget:
        raise Refusal("Settings name the root secrets: take the old one out of INNKEEPER_OTHER_ROOT_SECRETS instead.")
    await _require_in_use(owner, keyring, force=arguments.force)
    done = await reseal(owner, Vault(keyring), keyring.key_id, say)
    _refuse_what_is_left(done, keyring)
    return done


async def _under_new_root(
    owner: Connection, data: DataDirectory, keyring: Keyring, arguments: Namespace, say: Progress
) -> Resealed:
    with data.lock_roots():
        waiting = await under_other_roots(owner, keyring.key_id)
        # Secrets that are still under the root before are those of a rotation that was broken off: it is ended first.
        if not waiting.keys() & set(keyring.key_ids):
            # In this order: should the machine stop in between, the older root is known under both names.
            replace(data.previous_root_secret, data.root_secret.read_text())
            replace(data.root_secret, new_root() + "\n")
        done = await reseal(owner, Vault(keyring), keyring.key_id, say)
        _refuse_what_is_left(done, keyring)
        if arguments.forget:
            data.previous_root_secret.unlink(missing_ok=True)
    return done


async def _require_in_use(owner: Connection, keyring: Keyring, *, force: bool) -> None:
    """Refuse while a process serves that could not open what is about to be sealed, or still seals under another."""
    rows = await owner.fetch(
        "SELECT application_name FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE $1",
        SAID + "%",
    )
    others = sum(roots_said(row["application_name"])[0] != keyring.key_id for row in rows)
    if others and not force:
        raise Refusal(
            f"{others} of {len(rows)} running processes do not use the root secret '{keyring.key_id}' yet: restart "
            "each with it as INNKEEPER_ROOT_SECRET and the one before in INNKEEPER_OTHER_ROOT_SECRETS, then rotate. "
            "--force rotates without them; what they cannot open, they refuse."
        )


def _refuse_what_is_left(done: Resealed, keyring: Keyring) -> None:
    left = [
        f"{secrets} stored secrets are under the root secret '{key_id}', which is not known here: add it to "
        "INNKEEPER_OTHER_ROOT_SECRETS (under 'up' as a line of the file previous_root_secret) and rotate again. If it "
        "is lost, they are lost too, and have to be entered anew."
        for key_id, secrets in sorted(done.without_key.items())
    ]
    if done.damaged:
        left.append(
            f"{done.damaged} stored secrets do not open where they are kept: they were changed or moved. Enter them "
            "anew, and look into who can write to the database."
        )
    if left:
        raise Refusal(f"{done.sealed_anew} secrets are under '{keyring.key_id}' now, but:", *left)


def _tell(arguments: Namespace, keyring: Keyring, done: Resealed) -> None:
    if arguments.json:
        put(json.dumps({"key_id": keyring.key_id, "accepted": keyring.key_ids, "sealed_anew": done.sealed_anew}))
        return
    put(f"Everything is under the root secret '{keyring.key_id}'; {done.sealed_anew} secrets were sealed anew.")
    others = ", ".join(f"'{key_id}'" for key_id in keyring.key_ids[1:])
    if others:
        note(
            f"What was signed under {others} is still accepted: docs/operations.md says for how long that makes sense."
        )
