"""How a component gets into a registry, whoever brings it: its contents into the store first, then its version, in one
transaction. Contents that no version came to need are found and removed by a job."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final
from uuid import UUID

from db import components, jobs
from db.errors import AppError, conflict, needs_member, not_found
from tools import versions
from tools.component_dependencies import Own
from tools.component_faults import At, Fault, FaultsError
from tools.component_item import Item

if TYPE_CHECKING:
    from db.database import Connection
    from db.principal import Principal
    from tools.ports import Services

MEANINGS_JOB: Final = "find_meanings"
AT_ONCE: Final = 8
CONTENT_TYPE: Final = "text/plain; charset=utf-8"


def own_addresses(project_id: UUID, namespace: str, public_url: str) -> Callable[[str], str | None]:
    """The name (with its version, if it has one) behind an address of this registry, in any form our feeds give it."""
    prefix = f"{public_url.rstrip('/')}/r/{project_id}/"

    def own(address: str) -> str | None:
        if address.startswith(f"@{namespace}/"):
            return address[len(namespace) + 2 :]
        if address.startswith(prefix) and address.endswith(".json"):
            return address[len(prefix) : -len(".json")]
        return None

    return own


async def writable_registry(connection: Connection, project_id: UUID) -> components.Registry:
    """The registry, to who may publish in it."""
    found = await components.registry(connection, project_id)
    if found is None:
        raise not_found("project")
    if not found.writable:
        raise needs_member()
    return found


async def store_contents(services: Services, principal: Principal, project_id: UUID, item: Item) -> None:
    """Put what the project does not have yet into the store, outside any transaction. Raises ``quota_exceeded`` before
    anything is sent that the project has no room for."""
    contents = {content.sha256: content.data for content in item.contents}
    if not contents:
        return
    async with services.database.transaction(principal, project_id) as connection:
        absent = await absent_contents(connection, services, project_id, contents)
    await put_contents(services, project_id, absent)


async def absent_contents(
    connection: Connection, services: Services, project_id: UUID, contents: Mapping[bytes, bytes]
) -> dict[bytes, bytes]:
    """Those of the contents, by their sums, that the project does not have and has room for. Raises ``AppError``
    ``quota_exceeded``."""
    absent = {one: contents[one] for one in await components.absent_blobs(connection, contents)}
    used, quota = await components.room(connection, project_id, services.storage.quota_bytes)
    size = sum(map(len, absent.values()))
    if used + size > quota:
        raise quota_exceeded(used, quota, size)
    return absent


async def put_contents(services: Services, project_id: UUID, contents: Mapping[bytes, bytes]) -> None:
    """Into the store, a few at a time."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def put(sha256: bytes, data: bytes) -> None:
        async with gate:
            await services.store.put(components.blob_key(project_id, sha256), data, CONTENT_TYPE)

    for outcome in await asyncio.gather(*(put(*one) for one in contents.items()), return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome


def release(item: Item) -> components.Release:
    """The item as the database takes it."""
    return components.Release(
        item.name,
        item.version,
        versions.precedence(versions.parsed(item.version)) if item.version is not None else None,
        item.hash,
        item.type,
        item.title,
        item.description,
        item.words,
        item.item,
        item.props,
        item.state,
        item.size,
        [content.sha256 for content in item.contents],
        [len(content.data) for content in item.contents],
    )


async def publish(
    connection: Connection, principal: Principal, project_id: UUID, item: Item, default_quota: int
) -> components.Published:
    """One version, in the transaction of its caller. Raises ``AppError`` for what must not be."""
    done = await components.publish(connection, principal, project_id, release(item), default_quota=default_quota)
    match done.outcome:
        case "project_not_found":
            raise not_found("project")
        case "role_insufficient":
            raise needs_member()
        case "version_taken":
            raise conflict(
                "version_taken",
                f"Version {done.version} of this component is published already, with other content.",
                "What is published never changes: choose a higher version, or leave version out for the next one.",
                {"arguments": [{"do": "drop", "at": "version"}]},
            )
        case "quota_exceeded":
            raise quota_exceeded(done.used - item.size, done.quota, item.size)
    return done


async def say_new(connection: Connection, services: Services) -> None:
    """Have somebody find out what new components mean, where there is a model to ask."""
    if services.meanings.model is not None:
        await jobs.enqueue(connection, MEANINGS_JOB, {}, dedupe=MEANINGS_JOB)


async def require_own(connection: Connection, project_id: UUID, own: Sequence[Own], at: At) -> None:
    """Raises ``FaultsError`` for what an item needs of its own registry and is not there."""
    faults = []
    for one in own:
        if await components.at(connection, project_id, one.name, selection(one.wanted)) is None:
            says = (
                f"names {one}, which this registry does not have: publish it first, or write @shadcn/{one.name} for"
                " shadcn's"
            )
            faults.append(Fault(at, says))
    if faults:
        raise FaultsError(faults)


def selection(wanted: str | None) -> components.Selection:
    """Raises ``ValueError`` for what names no version and no range."""
    found = versions.wanted(wanted or versions.LATEST)
    return components.Selection(found.exact, found.low, found.high, found.prereleases)


def quota_exceeded(used: int, quota: int, size: int) -> AppError:
    return AppError(
        "quota_exceeded",
        413,
        f"The project may store {quota} bytes, {max(0, quota - used)} of them are free, and this has {size}.",
        "Delete files it no longer needs (list_files, delete_file), or ask who runs this house for more.",
        details={"ask": {"storage_bytes": used + size}},
    )
