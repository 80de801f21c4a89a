"""The model parameters a project may set, checked before a run starts.

Only what changes sampling is allowed. Headers, bodies and the like are not: they would let a project's settings reach
past the model into the platform's account at the provider.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from db.errors import invalid

THINKING = ("minimal", "low", "medium", "high", "xhigh", "max")


def _number(low: float, high: float) -> Callable[[object], bool]:
    return lambda value: isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high


def _integer(low: int, high: int) -> Callable[[object], bool]:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _strings(value: object) -> bool:
    return isinstance(value, list) and len(value) <= 16 and all(isinstance(item, str) and item for item in value)


PARAMETERS: Mapping[str, tuple[Callable[[object], bool], str]] = {
    "max_tokens": (_integer(1, 1_000_000), "a whole number from 1 to 1000000"),
    "temperature": (_number(0, 2), "a number from 0 to 2"),
    "top_p": (_number(0, 1), "a number from 0 to 1"),
    "seed": (_integer(-(2**63), 2**63 - 1), "a whole number"),
    "presence_penalty": (_number(-2, 2), "a number from -2 to 2"),
    "frequency_penalty": (_number(-2, 2), "a number from -2 to 2"),
    "stop_sequences": (_strings, "a list of at most 16 strings"),
    "parallel_tool_calls": (lambda value: isinstance(value, bool), "true or false"),
    "thinking": (
        lambda value: isinstance(value, bool) or (isinstance(value, str) and value in THINKING),
        f"true, false or one of {', '.join(THINKING)}",
    ),
    "timeout": (_number(1, 600), "seconds, from 1 to 600"),
}


def checked_parameters(parameters: Mapping[str, object]) -> dict[str, object]:
    """``parameters`` as a plain dictionary; AppError ``invalid_arguments`` naming every fault."""
    faults = [
        f"'{name}' must be {PARAMETERS[name][1]}" if name in PARAMETERS else f"'{name}' is not known"
        for name, value in parameters.items()
        if name not in PARAMETERS or not PARAMETERS[name][0](value)
    ]
    if faults:
        raise invalid(
            f"The model parameters are wrong: {'; '.join(faults)}.",
            f"Known parameters: {', '.join(sorted(PARAMETERS))}.",
        )
    return dict(parameters)
