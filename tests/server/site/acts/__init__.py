"""Every act of the audit log as somebody carries it out: a person in a browser, a program, or the operator."""

from tests.server.site.acts import accounts, members, programs, projects, secrets, signing_in
from tests.server.site.acts.world import ROWS

__all__ = ["ROWS", "accounts", "members", "programs", "projects", "secrets", "signing_in"]
