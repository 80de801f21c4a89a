"""One round of killing, decided by its seed: which runs there are, where their process dies, and what must hold then.

A round is told by its seed alone: ``INNKEEPER_KILL_SEEDS=17 pytest --long tests/killing/test_seeded_kills.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Any, Final
from uuid import uuid4

from tests.fakes.script import ToolCall, Turn
from tests.killing import points
from tests.killing.points import Act, Point

RUNS: Final = 3
RETELLINGS: Final = 8
WORDS: Final = 6
KINDS: Final = ("project", "mail", "file", "run")

MOST: Final = {
    points.MODEL_SPEAKS: RUNS * 3 * 2,
    **dict.fromkeys((points.MODEL_BEGINS, points.MODEL_DONE), RUNS * 3),
    points.MODEL_RECORDED: RUNS * 2,
    **dict.fromkeys((points.TOOL_BEGINS, points.TOOL_DONE, points.TOOL_RECORDED), RUNS + 1),
    **dict.fromkeys((points.EFFECT_WRITTEN, points.EFFECT_COMMITTING), RUNS + 1),
    **dict.fromkeys((points.STEP_WRITING, points.STEP_COMMITTING, points.STEP_WRITTEN), 4),
    **dict.fromkeys((points.EVENTS_WRITING, points.EVENTS_WRITTEN), 2),
    **dict.fromkeys((points.BEGINNING, points.BEGUN), RUNS),
    **dict.fromkeys((points.ENDING, points.ENDING_COMMITTING, points.ENDED), RUNS),
    **dict.fromkeys((points.STEP_WAITS, points.EVENTS_WAIT), 2),
    **dict.fromkeys((points.ENDING_WAITS, points.BEGINNING_WAITS, points.WRITE_WAITS), RUNS),
    **dict.fromkeys((points.MAIL_BEGINS, points.MAIL_LEAVES, points.MAIL_CARRIED), 2),
    points.TAKING_OVER: 1,
}
"""How often a point is passed in a round for sure, or nearly so: where on this way somebody dies is the seed's."""

AGAIN: Final = (
    *(points.TAKING_OVER, points.MODEL_BEGINS, points.MODEL_SPEAKS, points.MODEL_DONE, points.TOOL_BEGINS),
    *(points.EFFECT_COMMITTING, points.TOOL_DONE, points.STEP_WRITING, points.STEP_WRITTEN, points.ENDING),
)
"""Where the one who took over dies in turn."""


@dataclass(frozen=True)
class Effect:
    """Something to be done exactly once in the world, known by its ``name``."""

    kind: str
    name: str

    def call(self, project_id: str) -> ToolCall:
        """A call that does it, under an id of its own each time."""
        given: dict[str, Any] = {"project_id": project_id}
        match self.kind:
            case "project":
                return ToolCall("create_project", {"name": self.name})
            case "mail":
                return ToolCall(
                    "send_email", {**given, "to": ["ada@example.org"], "subject": self.name, "text": "A word."}
                )
            case "file":
                return ToolCall("create_upload", {**given, "path": f"{self.name}.txt", "size": 1})
        return ToolCall("start_run", {**given, "message": self.name})


@dataclass(frozen=True)
class Script:
    """What one run is to say and to do, answer by answer: so many words, then these effects at once."""

    said: str
    answers: tuple[tuple[tuple[str, ...], tuple[Effect, ...]], ...]

    @property
    def text(self) -> str:
        return "".join(word for words, _effects in self.answers for word in words)

    @property
    def effects(self) -> list[Effect]:
        return [effect for _words, effects in self.answers for effect in effects]

    def turns(self, project_id: str) -> list[tuple[Turn, ...]]:
        """For each step what the model says each time it is asked: the same things, under other ids."""
        return [
            tuple(Turn(*words, *(effect.call(project_id) for effect in effects)) for _ in range(RETELLINGS))
            for words, effects in self.answers
        ]


@dataclass(frozen=True)
class Round:
    """``first``: what happens where to the process that all runs begin in; ``second``: where one of those dies that
    take over. ``wakes_early``: if it stands still, it goes on as soon as one of its runs is taken over, else when the
    others are through. ``cancels``: how many events of its run a client sees before it asks for its end; 0: it does so
    when the process is dead, or stands still. ``cancelled``: whose client does."""

    seed: int
    scripts: tuple[Script, ...]
    first: Point
    second: Point | None
    wakes_early: bool = False
    cancels: int | None = None

    @property
    def points(self) -> tuple[Point, ...]:
        return (self.first,) if self.second is None else (self.first, self.second)

    @property
    def cancelled(self) -> tuple[Script, ...]:
        if self.cancels is None:
            return ()
        return self.scripts if self.first.act == "stop" else self.scripts[-1:]

    @classmethod
    def of(cls, seed: int) -> Round:
        random = Random(seed)
        name = f"{seed}-{uuid4().hex[:6]}"
        scripts = tuple(_script(random, f"round {name} run {number}") for number in range(RUNS))
        wanted = points.EVERY[seed % len(points.EVERY)]
        again = points.TAKING_OVER if wanted == points.TAKING_OVER else random.choice(AGAIN)
        second = Point(again) if random.random() < 0.8 or wanted == again else None
        if wanted == points.TAKING_OVER:
            wanted = random.choice((points.MODEL_SPEAKS, points.TOOL_DONE, points.STEP_WRITTEN))
        act: Act = "stop" if random.random() < 0.2 else "die"
        if wanted in points.HELD and random.random() < 0.25:
            act = "end"
        first = Point(wanted, random.randint(1, MOST[wanted]), act)
        early = random.random() < 0.5
        cancels = random.choice((0, 0, 1, 3, 6)) if random.random() < (0.5 if act == "stop" else 0.15) else None
        return cls(seed, scripts, first, second, early, cancels)


def _script(random: Random, said: str) -> Script:
    answers = []
    for step, calls in enumerate((random.randint(1, 3), 1, 0)):
        words = tuple(f"{step}.{number} " for number in range(random.randint(2, WORDS)))
        effects = tuple(Effect(random.choice(KINDS), f"{said} effect {step}.{call}") for call in range(calls))
        answers.append((words, effects))
    # One mail at least, so that there is a carrier to die at.
    words, effects = answers[0]
    answers[0] = (words, (Effect("mail", effects[0].name), *effects[1:]))
    return Script(said, tuple(answers))
