"""``innkeeper doctor``: every line ok, or what to do. Exit code 1 when something is to be done."""

from __future__ import annotations

import asyncio
import json
import os
from argparse import Namespace
from collections.abc import AsyncIterator, Mapping
from dataclasses import asdict
from pathlib import Path

from server.catalog import catalog_faults
from server.data_directory import DatabaseUrls, data_directory
from server.end_user_findings import end_user_findings
from server.finding import Finding
from server.issuers.catalog import issuers_of
from server.issuers.findings import identity_findings, issuer_findings
from server.issuers.issuer import Issuer
from server.jobs.health import job_findings
from server.keyring import Keyring
from server.model_choice import choose_model
from server.owner import owned_database
from server.refusal import Refusal
from server.roles import Facts, connect, inspect
from server.roots import known_keyring
from server.schema import SchemaState, revisions, schema_state
from server.settings import Settings, SettingsError, load
from server.settings.replaced import REPLACED
from server.store_findings import store_findings
from server.stored_secrets import secret_findings
from server.terminal import note, put


def run(arguments: Namespace) -> int:
    return asyncio.run(_doctor(arguments))


async def _doctor(arguments: Namespace) -> int:
    findings = [finding async for finding in _asked(arguments)]
    healthy = all(finding.verdict != "fault" for finding in findings)
    if arguments.json:
        put(json.dumps({"ok": healthy, "findings": [asdict(finding) for finding in findings]}))
    else:
        width = max(9, *(len(finding.subject) for finding in findings))
        for finding in findings:
            put(f"{finding.verdict:<5}  {finding.subject:<{width}}  {finding.said}")
    return 0 if healthy else 1


def _asked(arguments: Namespace) -> AsyncIterator[Finding]:
    """About a connection to any MCP server, or about this house."""
    if arguments.mcp is None:
        if arguments.token_file is not None:
            raise Refusal("--token-file is for --mcp URL: name the endpoint that takes the token.")
        return _findings(arguments)
    from server.diagnosis.examine import examine

    return examine(arguments.mcp, arguments.token_file)


async def _findings(arguments: Namespace) -> AsyncIterator[Finding]:
    for old in REPLACED:
        if os.environ.get(old.name):
            yield Finding("settings", "note", f"{old.name} is ignored, replaced by {old.by}: {old.reason}")
    try:
        settings = load(os.environ, environment="development")
    except SettingsError as error:
        for fault in error.faults:
            yield Finding("settings", "fault", fault)
        return
    yield Finding("settings", "ok", f"read, {settings.house.environment}")
    if opened := settings.outgoing.private:
        yield Finding(
            "settings",
            "warn",
            "INNKEEPER_ALLOW_PRIVATE_URLS lets everyone who may change a project reach, from this machine, "
            f"{', '.join(map(str, opened))}: unset it unless all of them are trusted with that.",
        )
    issuers = issuers_of(settings.oauth)
    async for finding in issuer_findings(settings.oauth, issuers):
        yield finding
    async for finding in _database(settings, arguments.data, issuers):
        yield finding
    directory = data_directory(arguments.data or settings.house.data, os.environ).root
    default = data_directory(arguments.data or settings.house.data, os.environ).files
    own = default if settings.database.url is None or arguments.data is not None else None
    async for finding in store_findings(settings, own, fix=arguments.fix):
        yield finding
    served = settings.house.environment == "production"
    choice = await choose_model(
        settings.models,
        detect=settings.database.url is None,
        data=None if served else directory,
        progress=note,
    )
    yield Finding("model", "ok" if choice.default else "note", choice.said)


async def _database(settings: Settings, chosen: Path | None, issuers: Mapping[str, Issuer]) -> AsyncIterator[Finding]:
    data = data_directory(chosen or settings.house.data, os.environ)
    try:
        if settings.database.url is not None and chosen is None:
            url, ops = settings.database.url, settings.database.ops_url
            urls = DatabaseUrls(url.get_secret_value(), ops.get_secret_value() if ops else None)
            keyring = known_keyring(settings.house, data)
            async for finding in _examine(urls, keyring, issuers, served=True):
                yield finding
        else:
            async with owned_database(settings, chosen, _silent) as urls:
                keyring = known_keyring(settings.house, data)
                async for finding in _examine(urls, keyring, issuers, served=False):
                    yield finding
    except Refusal as refusal:
        for sentence in refusal.sentences:
            yield Finding("database", "fault", sentence)


async def _examine(
    urls: DatabaseUrls, keyring: Keyring | None, issuers: Mapping[str, Issuer], *, served: bool
) -> AsyncIterator[Finding]:
    """``served``: by processes of its own, of which one should be a worker."""
    async with connect(urls.app, "DATABASE_URL") as connection:
        facts = await inspect(connection)
        yield Finding("database", "ok", f"PostgreSQL {facts.version}, database '{facts.database}'")
        yield _schema(facts)
        yield _role(facts, "the application role")
        faults = await catalog_faults(connection)
    if urls.ops is None:
        yield Finding("roles", "fault", "DATABASE_OPS_URL is not set: 'serve' and 'worker' need it.")
    else:
        async with connect(urls.ops, "DATABASE_OPS_URL") as connection:
            yield _role(await inspect(connection), "the ops role")
            if schema_state(facts.revision) in (SchemaState.current, SchemaState.newer):
                async for finding in job_findings(connection, served=served):
                    yield finding
                async for finding in secret_findings(connection, keyring):
                    yield finding
                async for finding in end_user_findings(connection):
                    yield finding
                async for finding in identity_findings(connection, issuers):
                    yield finding
    for fault in faults:
        yield Finding("rls", "fault", fault)
    if not faults:
        yield Finding("rls", "ok", "every table forces row-level security with the standard policies")


def _schema(facts: Facts) -> Finding:
    state = schema_state(facts.revision)
    if state in (SchemaState.absent, SchemaState.behind):
        return Finding(
            "schema", "fault", f"at {facts.revision}, this version needs {revisions()[-1]}: innkeeper migrate"
        )
    if state is SchemaState.newer:
        return Finding("schema", "note", f"at {facts.revision}, newer than this version, which works with it")
    return Finding("schema", "ok", f"at {facts.revision}")


def _role(facts: Facts, which: str) -> Finding:
    if facts.privileged:
        said = (
            f"{which} '{facts.role}' is superuser, bypasses row-level security or owns tables: use an unprivileged one"
        )
        return Finding("roles", "fault", said)
    return Finding("roles", "ok", f"{which} '{facts.role}' is unprivileged")


def _silent(_step: str) -> None:
    """The findings are what is printed."""
