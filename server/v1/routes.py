"""The reference's own wire, as npm @tambo-ai/client 1.1 and @tambo-ai/typescript-sdk 0.96 speak it: a dialect at the
edge of what ``/agui`` and the tools of threads do. docs/tambo-clients.md says what of it there is."""

from __future__ import annotations

from typing import Final

from starlette.convertors import StringConvertor, register_url_convertor
from starlette.routing import BaseRoute, Route

from server.http.callers import Callers
from server.http.runs import Answering, RunEdge, RunServices
from server.v1.component_state import ComponentState
from server.v1.runs import V1Runs
from server.v1.threads import ThreadEdge

THREADS: Final = "/v1/threads"
THREAD: Final = f"{THREADS}/{{thread_id:thread}}"


class ThreadConvertor(StringConvertor):
    """``/v1/threads/runs`` is not the thread "runs"."""

    regex = "(?!runs$)[^/]+"


register_url_convertor("thread", ThreadConvertor())


def routes(services: RunServices, callers: Callers) -> list[BaseRoute]:
    edge = RunEdge(services, callers)
    database = services.dispatch.services.database
    threads, runs, states = (
        ThreadEdge(services.engine, database),
        V1Runs(services, database),
        ComponentState(services, database),
    )

    def route(method: str, path: str, answer: Answering, name: str) -> Route:
        return Route(path, edge.answered(answer), methods=[method], name=f"v1-{name}")

    return [
        route("POST", THREADS, threads.create, "thread-create"),
        route("GET", THREADS, threads.page, "threads"),
        route("POST", f"{THREADS}/runs", runs.begin, "run-create"),
        route("GET", THREAD, threads.show, "thread"),
        route("PATCH", THREAD, threads.change, "thread-change"),
        route("DELETE", THREAD, threads.delete, "thread-delete"),
        route("GET", f"{THREAD}/messages", threads.messages, "messages"),
        route("GET", f"{THREAD}/messages/{{message_id}}", threads.message, "message"),
        route("POST", f"{THREAD}/runs", runs.go_on, "run"),
        route("GET", f"{THREAD}/runs/{{run_id}}/events", runs.follow, "run-events"),
        route("DELETE", f"{THREAD}/runs/{{run_id}}", runs.cancel, "run-cancel"),
        route("POST", f"{THREAD}/components/{{component_id}}/state", states.change, "component-state"),
    ]
