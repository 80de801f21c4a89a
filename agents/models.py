"""Which model a run talks to: from a model id and a project's settings to a pydantic-ai model.

Model ids are those of :mod:`db.model_ids`.

Use, with one factory a process (nothing of pydantic-ai is imported before the first ``warm`` or ``resolve``)::

    factory = ModelFactory(platform_keys={"openai": key}, local=local_model)
    await factory.warm()                                    # in the background, after ready

    by_id = ResolveModelId(lambda context, model_id: factory.of_run(context.deps, model_id))
    agent = Agent(capabilities=[by_id], deps_type=Deps, ...)    # Deps has what RunsAModel names
    spec = factory.effective(ModelSpec(project.model, base_url=project.base_url, project_id=project.id))
    agent.run_stream_events(prompt, model=spec.model, deps=Deps(model_spec=spec, ...))

``effective`` is cheap and raises what the caller did wrong (:class:`db.errors.AppError`) before a run starts.
The run's model is the id string ``spec.model``; the capability turns it into a model with the credentials in
``deps.model_spec``, so a durability backend journals the id and never a key.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, TypeAlias

from agents.model_ports import LocalModelPort, RunsAModel, TenantEndpoints, TenantKeys
from agents.model_settings import checked_parameters
from agents.model_spec import HOW_TO_CONFIGURE, ModelSpec, check_base_url, not_configured
from db import model_ids
from db.errors import invalid

if TYPE_CHECKING:
    import httpx2
    from pydantic_ai.models import Model

    from db.principal import Principal

_Way: TypeAlias = Literal["outside", "tenant", "loopback"]
"""How an endpoint is reached: as what the house itself names, as what a tenant named, or on this machine."""
NO_KEY = "no-key"  # compatible endpoints often want none; an empty one would fall back to the process environment


class ModelFactory:
    """Builds, shares and caches models; one a process, closed at shutdown with :meth:`aclose`.

    ``platform_keys``: provider to key, for runs whose project has no key; never sent to a tenant's base URL.
    ``endpoints``: ``ollama``/``lmstudio`` to the base URL where the operator runs one; a provider that is missing
    here cannot be reached without a base URL of the project's own. ``tenants`` leads to tenants' base URLs, which
    nothing does without it; ``keys`` finds projects' own keys. ``http_client`` carries the requests to OpenAI and to
    the operator's base URL; ``loopback_client`` those to ``endpoints`` and the local model. A client given here is the
    giver's to close.
    """

    def __init__(
        self,
        *,
        default: ModelSpec | None = None,
        platform_keys: Mapping[str, str] | None = None,
        endpoints: Mapping[str, str] | None = None,
        local: LocalModelPort | None = None,
        local_wait: float = 90.0,
        tenants: TenantEndpoints | None = None,
        keys: TenantKeys | None = None,
        http_client: httpx2.AsyncClient | None = None,
        loopback_client: httpx2.AsyncClient | None = None,
        max_retries: int = 2,
        cache_size: int = 256,
    ) -> None:
        self.default = default
        self.endpoints: dict[str, str] = dict(endpoints or {})
        self._platform_keys = {provider: key for provider, key in (platform_keys or {}).items() if key.strip()}
        self._local = local
        self._local_wait = local_wait
        self._tenants = tenants
        self._keys = keys
        self._guarded: httpx2.AsyncClient | None = None
        self._outside = http_client
        self._loopback = loopback_client
        self._owned: list[httpx2.AsyncClient] = []
        self._max_retries = max_retries
        self._cache: OrderedDict[tuple[object, ...], Model] = OrderedDict()
        self._cache_size = cache_size
        self._loading: dict[str, asyncio.Task[None]] = {}

    async def prepared(self, spec: ModelSpec, grant: Principal) -> ModelSpec:
        """As :meth:`effective`, with the key of the project that ``spec`` is of, as ``grant`` may use it.

        It is asked for each time: one that was replaced or deleted counts from the next run on, on every process.
        """
        spec = self._named(spec)
        provider = _key_provider(spec)
        if provider is not None and self._keys is not None and spec.project_id is not None:
            key = await self._keys.find(grant, spec.project_id, provider, spec.base_url)
            if key is not None:
                spec = replace(spec, api_key=key)
        return self.effective(spec)

    def effective(self, spec: ModelSpec | None = None) -> ModelSpec:
        """The spec a run is started and recorded with: defaults filled in, faults of the caller raised."""
        spec = self._named(spec or ModelSpec())
        provider, name = model_ids.parse(spec.model, spec.base_url)
        checked_parameters(spec.parameters)
        if spec.base_url:
            check_base_url(spec.base_url)
            if not spec.trusted:
                self._check_tenants(spec.base_url)
        if provider == "local":
            self._check_local(spec)
        elif provider in ("ollama", "lmstudio"):
            self._check_endpoint(spec, provider)
        elif provider == "openai" or not spec.base_url:
            spec = self._with_key(spec, f"{provider}:{name}")
        return spec

    async def resolve(self, spec: ModelSpec | None = None) -> Model:
        """The model for ``spec``, from the cache when the same project asked before.

        Raises AppError ``model_not_configured``, ``model_not_supported``, ``invalid_arguments`` or
        ``model_unavailable`` (the local model did not come up).
        """
        spec = self.effective(spec)
        provider, name = model_ids.parse(spec.model, spec.base_url)
        base_url, key = spec.base_url, (spec.api_key or "").strip() or NO_KEY
        way: _Way = "outside" if base_url is None or spec.trusted else "tenant"
        if provider == "local" and self._local is not None:
            endpoint = await self._local.ready(self._local_wait)
            base_url, name, key, way = endpoint.base_url, endpoint.name, endpoint.api_key, "loopback"
        elif provider in ("ollama", "lmstudio") and base_url is None:
            base_url, way = self.endpoints[provider], "loopback"
        await self._loaded(provider)
        fingerprint = hashlib.sha256(key.encode()).digest()
        settings = json.dumps(dict(spec.parameters), sort_keys=True)
        cache_key = (spec.project_id, provider, base_url, way, fingerprint, name, settings)
        model = self._cache.get(cache_key)
        if model is None:
            model = self._build(provider, name, base_url, key, spec.parameters, way)
            self._cache[cache_key] = model
            if len(self._cache) > self._cache_size:
                self._cache.popitem(last=False)
        self._cache.move_to_end(cache_key)
        return model

    async def of_run(self, run: RunsAModel, model_id: str) -> Model:
        """The model of a run, and those that stand in for it. For the capability that resolves model ids, which names
        the one that the run was started with: another may belong to another provider, which must never see this one's
        key."""
        if model_id != run.model_spec.model:
            raise RuntimeError("a run's model id must be the one in its model_spec")
        return await self._in_turn([run.model_spec, *run.fallbacks])

    async def _in_turn(self, specs: Sequence[ModelSpec]) -> Model:
        models = [(spec.model, await self.resolve(spec)) for spec in specs]
        from agents import attempts

        return attempts.in_turn(models, self._max_retries + 1)

    async def warm(self) -> None:
        """Import pydantic-ai's OpenAI family and its price table in a thread, so that no run pays for it.

        The Responses API, which costs a second and 25 MB more, only when a key or the default says it will be used.
        """
        default = self.default.model if self.default is not None else ""
        await self._loaded("openai" if self._platform_keys or default.startswith("openai:") else "openai-chat")

    async def aclose(self) -> None:
        """Close the connections this factory opened; it cannot be used afterwards."""
        if self._loading:
            await asyncio.wait(self._loading.values())
        self._cache.clear()
        for client in self._owned:
            await client.aclose()
        self._owned.clear()

    def _named(self, spec: ModelSpec) -> ModelSpec:
        if spec.model.strip():
            return spec
        if spec.base_url:
            raise not_configured("A base URL is set, but no model is named.", "Name the model in the project.")
        if self.default is None:
            raise not_configured("No model is configured.", HOW_TO_CONFIGURE)
        parameters = {**self.default.parameters, **spec.parameters}
        return replace(self.default, parameters=parameters, project_id=spec.project_id, trusted=True)

    def _check_tenants(self, base_url: str) -> None:
        if self._tenants is None:
            raise not_configured("This house goes to no base URL of a project.", HOW_TO_CONFIGURE)
        self._tenants.check(base_url)

    def _check_local(self, spec: ModelSpec) -> None:
        if spec.base_url:
            raise invalid("The model 'local' takes no base URL.", "Remove the base URL, or name the model it serves.")
        if self._local is None:
            raise not_configured("The local model is not installed here.", HOW_TO_CONFIGURE)

    def _check_endpoint(self, spec: ModelSpec, provider: str) -> None:
        if not spec.base_url and provider not in self.endpoints:
            raise not_configured(
                f"No {provider} answered on this machine when Innkeeper started.",
                f"Start it and restart Innkeeper, or give the project a base URL. Without it: {HOW_TO_CONFIGURE}",
            )

    def _with_key(self, spec: ModelSpec, model_id: str) -> ModelSpec:
        # The platform's key goes to OpenAI and nowhere else: a base URL of the tenant's brings the tenant's key.
        key = (spec.api_key or "").strip() or ("" if spec.base_url else self._platform_keys.get("openai", ""))
        if not key:
            raise not_configured(f"The model '{model_id}' needs an API key, and none is set.", HOW_TO_CONFIGURE)
        return replace(spec, api_key=key)

    async def _loaded(self, provider: str) -> None:
        await self._once("openai-chat", self._load)
        if provider == "openai":
            await self._once("openai", self._load_responses)

    async def _once(self, name: str, load: Callable[[], None]) -> None:
        task = self._loading.get(name)
        if task is None or (task.done() and task.exception() is not None):
            task = self._loading[name] = asyncio.create_task(asyncio.to_thread(load), name=f"import-{name}")
        if not task.done():
            # Shielded: the first run that waits here may be cancelled, the import is everybody's.
            await asyncio.shield(task)

    def _load(self) -> None:
        from agents import attempts, model_warmup, openai_models  # noqa: F401  (the first run does not wait for it)
        from agents.paced_stream import paced

        if self._outside is None:
            self._outside = openai_models.http_client(trust_env=True)
            self._owned.append(self._outside)
        if self._guarded is None and self._tenants is not None:
            self._guarded = paced(self._tenants.for_models())
            self._owned.append(self._guarded)
        if self._loopback is None:
            # Proxies from the environment are for the world outside, not for 127.0.0.1.
            self._loopback = openai_models.http_client(trust_env=False)
            self._owned.append(self._loopback)
        model_warmup.warm_up("openai-chat")

    def _load_responses(self) -> None:
        from agents import model_warmup

        model_warmup.warm_up("openai")

    def _build(
        self, provider: str, name: str, base_url: str | None, key: str, parameters: Mapping[str, object], way: _Way
    ) -> Model:
        from agents import openai_models

        client = {"loopback": self._loopback, "outside": self._outside, "tenant": self._guarded}[way]
        if client is None:
            raise RuntimeError("models are built after _loaded()")
        endpoint = openai_models.Endpoint(provider, base_url, key, client)
        return openai_models.build(endpoint, name, parameters)


def _key_provider(spec: ModelSpec) -> str | None:
    """Whose key a project may have for this; ``None`` where the endpoint is the operator's own, or on this machine."""
    if spec.base_url:
        return None if spec.trusted else "compatible"
    provider, _name = model_ids.parse(spec.model)
    return "openai" if provider in ("openai", "openai-chat") else None
