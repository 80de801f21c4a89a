"""Two hundred mistakes, from one seed: what was sent, what was meant, and when the mistake is mended."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from tests.teaching.repair import Request, Wish

NAMES = ("Atlas", "Birch", "Cedar")
SEED = 2026


@dataclass
class World:
    """What the mistakes are made in. ``keys``: tokens by what they may; ``stale``: a cursor of a text that changed.
    ``file``: the only file of Atlas, at ``there.txt``; Birch may store next to nothing."""

    projects: dict[str, str]
    keys: dict[str, str]
    stale: str
    file: str = ""
    used_key: str = "used-before"


@dataclass
class Mistake:
    """``query``: of the connection's URL. ``asks``: what the agent has to ask for; else the call has to succeed, and
    its answer to be about the project ``about``."""

    kind: str
    request: Request
    wish: Wish = field(default_factory=Wish)
    key: str = "all"
    query: str = ""
    asks: dict[str, Any] | None = None
    about: str | None = None


Maker = Callable[[World, random.Random], Mistake]


def called(kind: str, tool: str, arguments: dict[str, Any], *, idempotency: str | None = None, **more: Any) -> Mistake:
    return Mistake(kind, Request("tools/call", tool, arguments, idempotency), **more)


def picked(chance: random.Random, choices: list[Any]) -> Any:
    """One of the choices; they are tuples of many types, which nobody wants to spell."""
    return chance.choice(choices)


def drawn(world: World) -> Iterator[Mistake]:
    chance = random.Random(SEED)
    for make, times in MAKERS.items():
        for _ in range(times):
            yield make(world, chance)


def wrong_id(world: World, chance: random.Random) -> Mistake:
    project = chance.choice(NAMES)
    absent = str(UUID(int=chance.getrandbits(128), version=4))
    tool, more = chance.choice([("get_project", {}), ("update_project", {"tool_call_limit": chance.randint(1, 99)})])
    return called("wrong id", tool, {"project_id": absent, **more}, wish=Wish(project=project), about=project)


def no_id(world: World, chance: random.Random) -> Mistake:
    project = chance.choice(NAMES)
    written = chance.choice([project, world.projects[project][:-3], 7, None, [world.projects[project], "x"]])
    return called("malformed id", "get_project", {"project_id": written}, wish=Wish(project=project), about=project)


def missing_scope(world: World, chance: random.Random) -> Mistake:
    project = world.projects[chance.choice(NAMES)]
    key, tool, arguments, scope = picked(
        chance,
        [
            ("reads", "create_project", {"name": "New"}, "projects:write"),
            ("reads", "update_project", {"project_id": project, "name": "New"}, "projects:write"),
            ("reads", "delete_project", {"project_id": project}, "projects:write"),
            ("runs", "list_projects", {}, "projects:read"),
            ("runs", "get_project", {"project_id": project}, "projects:read"),
            ("reads", "list_files", {"project_id": project}, "storage:read"),
            ("reads", "create_upload", {"project_id": project, "path": "a", "size": 1}, "storage:write"),
        ],
    )
    return called("missing scope", tool, arguments, key=key, asks={"scope": scope})


def bad_enum(world: World, chance: random.Random) -> Mistake:
    name = chance.choice(NAMES)
    changes: dict[str, Any] = chance.choice(
        [
            {"approvals": "allways"},
            {"approvals": "when-new"},
            {"approvals": "Never"},
            {"clear": ["modle"]},
            {"clear": ["base_url", "max_tokens"]},
            {"model_parameters": {"thinking": "hihg"}},
            {"model_parameters": {"thinking": "med"}},
        ]
    )
    return called("bad enum", "update_project", {"project_id": world.projects[name], **changes}, about=name)


def bad_cursor(world: World, chance: random.Random) -> Mistake:
    if chance.random() < 0.5:
        return called("stale cursor", "get_project", {"project_id": world.projects["Atlas"], "cursor": world.stale})
    written = chance.choice(["2", "bmV4dA", world.stale, "a" * 60])
    return called("foreign cursor", "list_projects", {"cursor": written})


def oversize(world: World, chance: random.Random) -> Mistake:
    project = world.projects[chance.choice(NAMES)]
    tool, arguments = picked(
        chance,
        [
            ("create_project", {"name": "N" * chance.randint(81, 400)}),
            ("create_project", {"name": "Long", "instructions": "word " * chance.randint(4_001, 9_000)}),
            ("list_projects", {"limit": chance.randint(101, 9_999)}),
            ("list_projects", {"limit": 0}),
            ("get_project", {"project_id": project, "max_bytes": chance.randint(25_001, 99_999)}),
            ("update_project", {"project_id": project, "tool_call_limit": -1, "max_input_tokens": 3}),
            ("update_project", {"project_id": project, "model_parameters": {"temperature": 9, "top_p": 4}}),
        ],
    )
    return called("oversize", tool, arguments)


def whole_body(world: World, chance: random.Random) -> Mistake:
    return called("oversize body", "create_project", {"name": "Flood", "instructions": "x" * (5 << 20)})


def used_key(world: World, chance: random.Random) -> Mistake:
    arguments = {"name": f"Again {chance.randint(1, 99_999)}"}
    return called("used key", "create_project", arguments, idempotency=world.used_key)


def missing(world: World, chance: random.Random) -> Mistake:
    project = chance.choice(NAMES)
    tool, arguments, about = picked(
        chance,
        [
            ("create_project", {}, None),
            ("create_project", {"instructions": "Be kind."}, None),
            ("create_project", {"name": ""}, None),
            ("create_project", {"name": "   "}, None),
            ("get_project", {}, project),
            ("update_project", {"tool_call_limit": 5}, project),
        ],
    )
    return called("missing", tool, arguments, wish=Wish({"name": "Wished for"}, project), about=about)


def unknown(world: World, chance: random.Random) -> Mistake:
    project = chance.choice(NAMES)
    there = world.projects[project]
    tool, arguments = picked(
        chance,
        [
            ("get_project", {"projectId": there}),
            ("get_project", {"project": there}),
            ("get_project", {"project_id": there, "verbose": True}),
            ("get_project", {"project_id": there, "max_byte": 2_000}),
            ("update_project", {"project_id": there, "instruction": "Be kind."}),
            ("update_project", {"project_id": there, "model_parameters": {"temprature": 0.2}}),
            ("update_project", {"project_id": there, "model_parameters": {"temperature": 0.2, "stream": True}}),
            ("update_project", {"id": there, "project_id": there, "toolCallLimit": 5}),
        ],
    )
    return called("unknown argument", tool, arguments, wish=Wish(project=project), about=project)


def wrong_type(world: World, chance: random.Random) -> Mistake:
    project = chance.choice(NAMES)
    there = {"project_id": world.projects[project]}
    tool, arguments = picked(
        chance,
        [
            ("list_projects", {"limit": "many"}),
            ("list_projects", {"limit": [5]}),
            ("list_projects", {"cursor": 3}),
            ("create_project", {"name": 42}),
            ("create_project", {"name": ["Listed"]}),
            ("update_project", {**there, "tool_call_limit": "ten"}),
            ("update_project", {**there, "tool_call_limit": 7.5}),
            ("update_project", {**there, "allow_prompt_override": "certainly"}),
            ("update_project", {**there, "clear": "model"}),
            ("update_project", {**there, "model_parameters": "hot"}),
            ("update_project", {**there, "base_url": "llm.example.test/v1"}),
        ],
    )
    said = {
        "name": "Listed",
        "tool_call_limit": 10,
        "allow_prompt_override": True,
        "model_parameters": {"temperature": 1.5},
        "base_url": "https://llm.example.test/v1",
    }
    return called("wrong type", tool, arguments, wish=Wish(said, project))


def unknown_tool(world: World, chance: random.Random) -> Mistake:
    project = chance.choice(NAMES)
    there = {"project_id": world.projects[project]}
    tool, arguments, about = picked(
        chance,
        [
            ("list_project", {}, None),
            ("projects_list", {}, None),
            ("listProjects", {}, None),
            ("getproject", there, project),
            ("get-project", there, project),
            ("project.get", there, project),
            ("updateProject", {**there, "tool_call_limit": 9}, project),
            ("create_projects", {"name": "Plural"}, None),
        ],
    )
    return called("unknown tool", tool, arguments, about=about)


def read_only(world: World, chance: random.Random) -> Mistake:
    project = world.projects[chance.choice(NAMES)]
    tool, arguments = picked(
        chance, [("create_project", {"name": "No"}), ("update_project", {"project_id": project, "name": "No"})]
    )
    key, query = chance.choice([("all", "?read_only=1"), ("only_reads", "")])
    return called("read-only connection", tool, arguments, key=key, query=query, asks={"read_only": False})


def bound(world: World, chance: random.Random) -> Mistake:
    key, query = chance.choice([("bound", ""), ("all", f"?project={world.projects['Atlas']}")])
    return called("bound key", "create_project", {"name": "Outside"}, key=key, query=query, asks={"project": "any"})


def narrowed(world: World, chance: random.Random) -> Mistake:
    key, query = chance.choice([("bound", ""), ("all", f"?project={world.projects['Atlas']}")])
    other = world.projects[chance.choice(["Birch", "Cedar"])]
    if chance.random() < 0.5:
        return called("narrowed", "get_project", {"project_id": other}, key=key, query=query, about="Atlas")
    arguments = {"project_id": other, "tool_call_limit": 3}
    return called("narrowed write", "update_project", arguments, key=key, query=query, asks={"project": "any"})


def nul(world: World, chance: random.Random) -> Mistake:
    there = {"project_id": world.projects["Cedar"]}
    tool, arguments = picked(
        chance,
        [
            ("create_project", {"name": "Zero\x00th"}),
            ("create_project", {"name": "Zero", "instructions": "Be\x00 kind.\x00"}),
            ("update_project", {**there, "model": "openai:\x00gpt"}),
        ],
    )
    return called("NUL", tool, arguments)


def set_and_cleared(world: World, chance: random.Random) -> Mistake:
    name = chance.choice(["model", "max_input_tokens"])
    value = {"model": "openai:small", "max_input_tokens": 4_000}[name]
    clear = [name, *chance.sample(["model_parameters"], chance.randint(0, 1))]
    arguments = {"project_id": world.projects["Birch"], name: value, "clear": clear}
    return called("set and cleared", "update_project", arguments, about="Birch")


def nothing(world: World, chance: random.Random) -> Mistake:
    wish = Wish({"instructions": "Be brief."})
    return called("nothing to change", "update_project", {"project_id": world.projects["Birch"]}, wish=wish)


def bad_uri(world: World, chance: random.Random) -> Mistake:
    project = chance.choice(NAMES)
    there = world.projects[project]
    uri = chance.choice(
        [
            f"innkeeper://project/{there}",
            f"innkeeper://projects/{project}",
            f"innkeeper://projects/{UUID(int=7)}",
            "x://y",
        ]
    )
    return Mistake("bad URI", Request("resources/read", uri), Wish(project=project), about=project)


def approval(world: World, chance: random.Random) -> Mistake:
    arguments = {"project_id": world.projects["Dune"]}
    return called("approval", "delete_project", arguments, asks={"approval": "/approvals/"})


def weak_role(world: World, chance: random.Random) -> Mistake:
    arguments = {"project_id": world.projects["Atlas"], "tool_call_limit": 4}
    return called("weak role", "update_project", arguments, key="viewer", asks={"role": "admin"})


def bad_prompt(world: World, chance: random.Random) -> Mistake:
    project = chance.choice(NAMES)
    name, arguments = chance.choice(
        [
            ("setup_project", {"purpose": "Answer guests."}),
            ("set_up_project", {}),
            ("set_up_project", {"purpose": "Answer guests.", "nmae": "Desk"}),
            ("review_project_setting", {"project": project}),
        ]
    )
    wish = Wish({"purpose": "Answer guests."}, project)
    return Mistake("bad prompt", Request("prompts/get", name, arguments), wish)


def wrong_file(world: World, chance: random.Random) -> Mistake:
    absent = str(UUID(int=chance.getrandbits(128), version=4))
    written = chance.choice([absent, "there.txt", world.file[:-2]])
    there = {"project_id": world.projects["Atlas"], "file_id": written}
    return called("wrong file", chance.choice(["get_file", "confirm_upload"]), there)


def bad_upload(world: World, chance: random.Random) -> Mistake:
    number = chance.randint(1, 99_999)
    fine = {"project_id": world.projects["Cedar"], "path": f"notes/{number}.txt", "size": 3}
    wrong: dict[str, Any] = chance.choice(
        [
            {"path": f"/notes/{number}.txt"},
            {"path": f"../{number}"},
            {"path": f"notes/{number}\x00.txt"},
            {"size": "three"},
            {"size": -3},
            {"size": 1 << 50},
            {"content_type": "text"},
            {"sha256": "abc"},
            {"content-type": "text/plain"},
            {"metadata": "none"},
        ]
    )
    said = {**fine, "content_type": "text/plain", "sha256": "ab" * 32, "metadata": {"by": "hand"}}
    return called("bad upload", "create_upload", {**fine, **wrong}, wish=Wish(said, "Cedar"))


def taken(world: World, chance: random.Random) -> Mistake:
    there = {"project_id": world.projects["Atlas"], "path": "there.txt", "size": 3}
    return called("path taken", "create_upload", there, wish=Wish({"path": f"free/{chance.randint(1, 99_999)}.txt"}))


def full(world: World, chance: random.Random) -> Mistake:
    there = {"project_id": world.projects["Birch"], "path": "long.bin", "size": 100}
    return called("quota", "create_upload", there, asks={"storage_bytes": 100})


def bad_list_of_files(world: World, chance: random.Random) -> Mistake:
    there = {"project_id": world.projects["Atlas"]}
    more: dict[str, Any] = chance.choice([{"cursor": world.stale}, {"limit": 500}, {"folder": "a"}, {"prefix": 7}])
    return called("bad list of files", "list_files", {**there, **more}, wish=Wish({"prefix": ""}))


MAKERS: dict[Maker, int] = {
    wrong_file: 6,
    bad_upload: 12,
    taken: 1,
    full: 1,
    bad_list_of_files: 4,
    wrong_id: 12,
    no_id: 10,
    missing_scope: 16,
    bad_enum: 14,
    bad_cursor: 14,
    oversize: 14,
    whole_body: 1,
    used_key: 8,
    missing: 10,
    unknown: 12,
    wrong_type: 12,
    unknown_tool: 12,
    read_only: 8,
    bound: 4,
    narrowed: 6,
    nul: 4,
    set_and_cleared: 4,
    nothing: 2,
    bad_uri: 6,
    approval: 2,
    weak_role: 2,
    bad_prompt: 3,
}
