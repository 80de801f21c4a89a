"""Searches by meaning: a scripted embedding model behind OpenAI's wire, the real client, job and pgvector."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import asyncpg
import pytest
import pytest_asyncio

from db.jobs import enqueue_for
from server.integrations.embeddings import EmbeddingModel
from server.jobs.catalog import JOBS
from server.jobs.worker import WorkerRules, working
from tests.conftest import DatabaseUrls, Owner, Tenant, eventually
from tests.fakes.embeddings_server import ScriptedEmbeddings, scripted_embeddings
from tests.tools.shelf import Shelf
from tools.dispatch import Dispatch
from tools.ports import Services
from tools.publishing import MEANINGS_JOB

if TYPE_CHECKING:
    from server.services import Services as HouseServices

pytestmark = pytest.mark.promise("REG-02")
KINDS = {MEANINGS_JOB, "look_for_meanings"}


@pytest_asyncio.fixture
async def model() -> AsyncIterator[ScriptedEmbeddings]:
    async with scripted_embeddings() as model:
        yield model


@asynccontextmanager
async def shelf_with(services: Services, tenant: Tenant, url: str, name: str = "small") -> AsyncIterator[Shelf]:
    """A registry whose searches ask the model at ``url``, and a worker beside it."""
    async with aclosing(EmbeddingModel(name, "sk-embeddings", url)) as meanings:
        dispatch = Dispatch(replace(services, meanings=meanings))
        house = cast("HouseServices", SimpleNamespace(database=services.database, dispatch=dispatch))
        async with working(house, WorkerRules(4, 5.0), [job for job in JOBS if job.kind in KINDS]):
            yield Shelf(dispatch, tenant)


async def stocked(shelf: Shelf) -> None:
    await shelf.publish("price-card", title="Price card", description="What a plan costs.")
    await shelf.publish("bars", title="Bars", description="A chart with bars.")
    await shelf.publish("picker", title="Picker", description="Choose a day in a calendar.")


async def known(owner: Owner, model: str, count: int) -> None:
    """Once so many components have a vector of the model."""

    async def all_known() -> bool:
        query = "SELECT count(*) FROM components WHERE embedding IS NOT NULL AND embedding_model = $1"
        return bool(await owner.fetchval(query, model) == count)

    await eventually(all_known, 30)


async def test_what_is_meant_is_found_without_a_word_in_common_and_words_still_count(
    services: Services, tenant: Tenant, owner: Owner, model: ScriptedEmbeddings
) -> None:
    async with shelf_with(services, tenant, model.url) as shelf:
        await stocked(shelf)
        await known(owner, "small", 3)
        assert await shelf.found("invoice") == ["price-card"]
        assert await shelf.found("appointment schedule") == ["picker"]
        assert set(await shelf.found("histogram of costs")) == {"price-card", "bars"}
        # The word alone finds one, the meaning another; the very name goes before both.
        assert (await shelf.found("bars"))[0] == "bars"
        assert set(await shelf.found("picker for billing")) == {"picker", "price-card"}
        assert await shelf.found("invoice", type="registry:hook") == []
        assert await shelf.found("zzzz") == []
        asked = len(model.asked)
        await shelf.found("  Invoice ")
        assert len(model.asked) == asked
        assert set(model.keys) == {"Bearer sk-embeddings"}

        await shelf.publish("price-card", title="Price card", description="Rooms with a view.")
        await shelf.publish("bars", "other code", title="Bars", description="A chart with bars.")
        await known(owner, "small", 3)
        assert [texts for name, texts in model.asked if "Rooms with a view." in "".join(texts)]


async def test_without_the_model_or_without_pgvector_words_alone_do(
    services: Services, tenant: Tenant, owner: Owner, model: ScriptedEmbeddings, urls: DatabaseUrls
) -> None:
    async with shelf_with(services, tenant, model.url) as shelf:
        await stocked(shelf)
        await known(owner, "small", 3)
        model.status = 500
        assert await shelf.found("subscription") == []
        assert await shelf.found("plan") == ["price-card"]
        model.status = 200
        assert await shelf.found("subscription") == ["price-card"]
        superuser = await asyncpg.connect(urls.superuser)
        await superuser.execute("DROP EXTENSION vector")
        await superuser.close()
        assert await shelf.found("subscription") == []
        assert await shelf.found("plan") == ["price-card"]


async def test_another_model_is_asked_about_everything_and_never_compared_with_the_former_one(
    services: Services, tenant: Tenant, owner: Owner, model: ScriptedEmbeddings
) -> None:
    async with shelf_with(services, tenant, model.url) as shelf:
        await stocked(shelf)
        await known(owner, "small", 3)
    async with aclosing(EmbeddingModel("large", "sk-embeddings", model.url)) as large:
        assert await Shelf(Dispatch(replace(services, meanings=large)), tenant).found("invoice") == []
    async with shelf_with(services, tenant, model.url, "large") as shelf:
        async with services.database.ops() as connection:
            await enqueue_for(connection, None, "look_for_meanings", {})
        await known(owner, "large", 3)
        assert await shelf.found("invoice") == ["price-card"]


async def test_without_a_model_nothing_is_asked_and_nothing_waits(
    services: Services, tenant: Tenant, owner: Owner
) -> None:
    await stocked(Shelf(Dispatch(services), tenant))
    assert await owner.fetchval("SELECT count(*) FROM ops.pgqueuer") == 0
