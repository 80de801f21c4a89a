"""The one way to call a tool or read a resource. Every edge parses and prints; what may happen is decided here.

Scope, narrowing, arguments, project, deadline, limits of the project, idempotency and approval, in this order; then the
tool and its audit, in one transaction if it writes. A write's saved answer and its effect are committed together.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final
from uuid import UUID

import asyncpg
from opentelemetry import trace
from pydantic import BaseModel, ValidationError

from db import ledger
from db.errors import AppError, invalid, missing_scope, read_only
from db.principal import Principal
from db.spans import span
from tools import approval, mistakes
from tools.approval import Answer, NotYetAllowedError, Question
from tools.catalog import CATALOG, Catalog, offers, visible
from tools.contract import PROJECT, Call, Progress, ToolSpec
from tools.deadline import Deadline
from tools.limits import NOWHERE
from tools.long_writes import LongWrite, LongWrites
from tools.narrowing import EVERYTHING, Narrowing
from tools.outcome import Outcome
from tools.ports import Services
from tools.resources import Document
from tools.result import MOST_BYTES, asked

DEADLINE_SECONDS: Final = 30.0
LONG_DEADLINE_SECONDS: Final = 600.0
_tracer = trace.get_tracer("innkeeper.tools")
_NOT_STOPPABLE: Final = nullcontext[LongWrite | None](None)


class Dispatch:
    """Calls tools as a principal. ``verify_project=False`` leaves the tenant check to the database (for tests)."""

    def __init__(
        self,
        services: Services,
        catalog: Catalog = CATALOG,
        *,
        verify_project: bool = True,
        deadline: float = DEADLINE_SECONDS,
        long_deadline: float = LONG_DEADLINE_SECONDS,
    ) -> None:
        self.services = services
        self.catalog = catalog
        self.long_writes = LongWrites(services.database)
        self._verify_project = verify_project
        self._deadline = Deadline(deadline)
        self._long_deadline = Deadline(long_deadline)

    async def call(
        self,
        principal: Principal,
        name: str,
        arguments: Mapping[str, Any],
        *,
        narrowing: Narrowing = EVERYTHING,
        idempotency_key: str | None = None,
        progress: Progress | None = None,
        answer: Answer | None = None,
    ) -> Outcome:
        """Call the tool ``name``. Raises ``AppError`` for everything that is the caller's to know. ``progress`` hears
        how far a tool that takes long has come. ``answer``: what a person said when this call was made before."""
        caller = narrowing.of(principal)
        spec = self._permitted(caller, name, narrowing)
        values = _validated(spec, caller, arguments)
        project_id = values.get(PROJECT)
        if self._is_elsewhere(caller, project_id):
            raise mistakes.another_project(spec)
        call = Call(caller, self.services, project_id, listener=progress)
        deadline = self._long_deadline if spec.takes_long else self._deadline
        place = self.services.limits.in_project(caller, project_id, long=spec.takes_long)
        with span(_tracer, "tool.call", "tool.name", spec.name):
            try:
                if place is NOWHERE and spec.hints.read_only and not spec.may_ask:
                    return await deadline.during(self._read(spec, call, values))
                with self._stoppable(spec, caller, idempotency_key) as long_write, deadline.kept():
                    if long_write is not None:
                        await long_write.date(self.services.database)
                    async with place:
                        if spec.may_ask:
                            return await self._ask_first(spec, call, values, idempotency_key, answer, long_write)
                        if spec.hints.read_only:
                            return await self._read(spec, call, values)
                        return await self._write(spec, call, values, idempotency_key, long_write)
            except TimeoutError as error:
                raise AppError(
                    "deadline_exceeded",
                    504,
                    f"{name} took longer than {deadline.seconds:g} s.",
                    "Try again later.",
                    True,
                ) from error
            except asyncpg.PostgresError as error:
                raise _from_database(error) from error

    async def read_resource(
        self, principal: Principal, uri: str, *, narrowing: Narrowing = EVERYTHING
    ) -> Outcome | Document:
        """Read the resource at ``uri``: a model, or the document itself. Raises ``AppError`` ``resource_not_found`` for
        what this caller cannot see."""
        caller = narrowing.of(principal)
        for spec in self.catalog.resources:
            values = spec.match(uri)
            if values is None:
                continue
            project_id = values[PROJECT]
            if not caller.may(spec.scope):
                raise missing_scope(spec.scope.value)
            with span(_tracer, "resource.read", "resource.name", spec.name):
                try:
                    if self._is_elsewhere(caller, project_id):
                        break
                    with self._deadline.kept():
                        async with self.services.limits.in_project(caller, project_id):
                            value = await spec.function(Call(caller, self.services, project_id), **values)
                            return value if isinstance(value, Document) else Outcome.of(spec, value, MOST_BYTES)
                except AppError as error:
                    if error.status == 404:
                        break
                    raise
                except asyncpg.PostgresError as error:
                    raise _from_database(error) from error
        raise mistakes.no_such_resource([spec.uri_template for spec in self.catalog.visible_resources(caller)])

    def _permitted(self, caller: Principal, name: str, narrowing: Narrowing) -> ToolSpec:
        spec = self.catalog.tool(name)
        if spec is None:
            raise self.unknown(name, caller, narrowing)
        if not offers(self.catalog.offered(narrowing.families), spec, caller):
            raise AppError(
                "tool_not_offered",
                404,
                f"This connection does not offer {spec.name}.",
                f"Connect with ?tools={spec.family} added to the URL.",
                details={"ask": {"tools": spec.family}},
            )
        if visible(spec, caller):
            return spec
        if caller.tools is not None and spec.name not in caller.tools:
            raise mistakes.not_the_agents(spec.name)
        # The scope comes last: with another token alone the call would still be refused for these.
        if caller.read_only and not spec.hints.read_only:
            raise read_only(spec.name)
        if spec.account_wide and not caller.account_wide:
            raise mistakes.project_bound(spec.name)
        raise missing_scope(spec.scope.value)

    def unknown(self, name: str, caller: Principal, narrowing: Narrowing = EVERYTHING) -> AppError:
        """The error for a tool there is not, with the one that was probably meant, of those the caller may call."""
        return mistakes.unknown_tool(name, [tool.name for tool in self.catalog.visible(caller, narrowing.families)])

    def _is_elsewhere(self, caller: Principal, project_id: UUID | None) -> bool:
        return self._verify_project and project_id is not None and caller.project_id not in (None, project_id)

    def _stoppable(
        self, spec: ToolSpec, caller: Principal, key: str | None
    ) -> AbstractContextManager[LongWrite | None]:
        if key is None or not spec.takes_long or spec.hints.read_only:
            return _NOT_STOPPABLE
        return self.long_writes.begin(caller, key)

    async def _ask_first(
        self,
        spec: ToolSpec,
        call: Call,
        values: dict[str, Any],
        key: str | None,
        answer: Answer | None,
        long_write: LongWrite | None,
    ) -> Outcome:
        asking = approval.question(spec, call, values, ledger.digest(spec.name, values))
        if asking is not None and answer is not None:
            await approval.note(self.services, asking, answer)
        try:
            if not spec.hints.read_only:
                return await self._write(spec, call, values, key, long_write, asking)
            if asking is not None:
                await approval.require_apart(self.services, asking)
            return await self._read(spec, call, values)
        except NotYetAllowedError as waiting:
            if asking is None:
                raise
            raise await approval.put(self.services, asking, waiting.preview) from None

    async def _read(self, spec: ToolSpec, call: Call, values: dict[str, Any]) -> Outcome:
        return Outcome.of(spec, await spec.function(call, **values), asked(values)).linked(spec, values)

    async def _write(
        self,
        spec: ToolSpec,
        call: Call,
        values: dict[str, Any],
        key: str | None,
        long_write: LongWrite | None,
        asking: Question | None = None,
    ) -> Outcome:
        digest = ledger.digest(spec.name, values)
        found = await spec.before(call, **values) if spec.before is not None else None
        outcome = await self._effect(spec, call._replace(found=found), values, key, digest, long_write, asking)
        if spec.after is None:
            return outcome.linked(spec, values)
        saved = spec.output.validate_json(outcome.json)
        shown = await spec.after(call, saved, replayed=outcome.replayed, **values)
        return Outcome.of(spec, shown, asked(values))._replace(replayed=outcome.replayed).linked(spec, values)

    async def _effect(
        self,
        spec: ToolSpec,
        call: Call,
        values: dict[str, Any],
        key: str | None,
        digest: bytes,
        long_write: LongWrite | None,
        asking: Question | None,
    ) -> Outcome:
        async with self.services.database.transaction(call.principal, call.project_id) as connection:
            if long_write is not None:
                await long_write.hold(connection)
            if key is not None:
                saved = await ledger.claim(connection, call.principal, key, spec.name, digest, call.project_id)
                if saved is not None:
                    await ledger.require_membership(connection, saved, ended=spec.ends_project)
                    return Outcome(saved.answer, True, spec.untrusted, spec.rest_from)
            if asking is not None:
                await approval.require(connection, asking)
            bound = call._replace(connection=connection)
            outcome = Outcome.of(spec, await spec.function(bound, **values), asked(values))
            target = outcome.structured.get("id")
            await ledger.audit(connection, call.principal, call.project_id, spec.name, target)
            if key is not None:
                await ledger.save(connection, call.principal, key, outcome.json)
            if long_write is not None:
                long_write.conclude()
        return outcome


def _validated(spec: ToolSpec, caller: Principal, arguments: Mapping[str, Any]) -> dict[str, Any]:
    given = dict(arguments)
    if caller.project_id is not None and spec.in_project and PROJECT not in given:
        given[PROJECT] = caller.project_id
    try:
        model: BaseModel = spec.input_model.__pydantic_validator__.validate_python(given)
    except ValidationError as error:
        number = error.error_count()
        if number > mistakes.MOST_LISTED:
            raise mistakes.too_many(spec, number) from None
        faults = error.errors(include_url=False, include_input=False)
        raise mistakes.wrong_arguments(spec, given, faults, bound=caller.project_id is not None) from None
    return vars(model)  # of a model that nobody else has


def _from_database(error: asyncpg.PostgresError) -> AppError:
    if isinstance(error, asyncpg.InsufficientPrivilegeError):
        return AppError(
            "not_permitted",
            403,
            "Your role or key does not allow this here.",
            "Ask an administrator of the project.",
            details={"ask": {"role": "admin"}},
        )
    if isinstance(error, (asyncpg.SerializationError, asyncpg.DeadlockDetectedError, asyncpg.LockNotAvailableError)):
        return AppError("busy", 409, "Another call was changing the same thing.", "Try the same call again.", True)
    if isinstance(error, asyncpg.DataError):
        return invalid(
            "A value cannot be stored as it is.",
            "Remove NUL and other characters that are not text.",
            details={"arguments": [{"do": "change", "without": [mistakes.NUL]}]},
        )
    raise error
