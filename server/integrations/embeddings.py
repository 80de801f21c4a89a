"""What words mean, by a model behind OpenAI's ``POST /embeddings`` or anything that speaks like it."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Sequence
from time import monotonic
from typing import TYPE_CHECKING, Final

from db.errors import AppError
from tools.ports import Meaning

if TYPE_CHECKING:
    import openai

OPENAI: Final = "https://api.openai.com/v1"
QUERY_SECONDS: Final = 2.0
BATCH_SECONDS: Final = 60.0
REMEMBERED: Final = 512
QUIET_SECONDS: Final = 60.0
_log = logging.getLogger("innkeeper.embeddings")


class EmbeddingModel:
    """What was searched for lately is remembered."""

    def __init__(self, model: str, api_key: str, base_url: str = OPENAI) -> None:
        self.model = model
        self._api_key = api_key
        self._base_url = base_url
        self._client: openai.AsyncOpenAI | None = None
        self._known: OrderedDict[str, Meaning] = OrderedDict()
        self._said_at = -QUIET_SECONDS

    async def of(self, words: str) -> Meaning | None:
        """What the words of a search mean; ``None`` when the model does not say so in time: words alone then do."""
        words = " ".join(words.lower().split())
        known = self._known.get(words)
        if known is not None:
            self._known.move_to_end(words)
            return known
        try:
            [vector] = await self.of_all([words], seconds=QUERY_SECONDS)
        except AppError as error:
            if monotonic() - self._said_at >= QUIET_SECONDS:
                self._said_at = monotonic()
                _log.warning("searches go by words alone for now: %s", error.message)
            return None
        meaning = self._known[words] = Meaning(vector, self.model)
        if len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        return meaning

    async def of_all(self, texts: Sequence[str], *, seconds: float = BATCH_SECONDS) -> list[list[float]]:
        """Of each text its vector. Raises ``AppError`` that is retryable unless the model refuses the request."""
        import openai

        try:
            answer = await self._open().embeddings.create(
                model=self.model, input=list(texts), encoding_format="float", timeout=seconds
            )
        except openai.APIStatusError as error:
            retryable = error.status_code >= 500 or error.status_code in (408, 409, 429)
            raise _failed(f"it answered {error.status_code}", retryable=retryable) from error
        except openai.OpenAIError as error:
            raise _failed("it cannot be reached", retryable=True) from error
        vectors = [one.embedding for one in sorted(answer.data, key=lambda one: one.index)]
        if len(vectors) != len(texts) or not all(vectors):
            raise _failed("it answered with something else than was asked for", retryable=False)
        return vectors

    async def aclose(self) -> None:
        if self._client is not None:
            await self._client.close()

    def _open(self) -> openai.AsyncOpenAI:
        import openai

        if self._client is None:
            self._client = openai.AsyncOpenAI(api_key=self._api_key, base_url=self._base_url, max_retries=0)
        return self._client


def _failed(how: str, *, retryable: bool) -> AppError:
    return AppError(
        "embedding_failed", 502, f"The embedding model failed: {how}.", "See INNKEEPER_EMBEDDING_MODEL.", retryable
    )
