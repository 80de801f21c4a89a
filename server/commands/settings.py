"""``innkeeper settings``: every variable, as a list or as the page of the documentation."""

from __future__ import annotations

from argparse import Namespace

from server.settings.loading import sections
from server.settings.section import variable_names
from server.settings.table import markdown
from server.terminal import put


def run(arguments: Namespace) -> int:
    if arguments.markdown:
        put(markdown().rstrip("\n"))
        return 0
    for _, section in sections():
        for field, info in section.model_fields.items():
            if info.validation_alias is not None:
                put(f"{variable_names(section, field)[0]:<30} {info.description}")
    return 0
