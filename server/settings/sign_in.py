"""Who may come in, and what programs may ask them for."""

from __future__ import annotations

from server.settings.section import Section, variable


class SignInSettings(Section):
    """Sign-in of people, and of the programs that they let in."""

    client_documents: bool = variable(
        "INNKEEPER_CLIENT_DOCUMENTS",
        default=True,
        description="Whether OAuth clients may be known by the document at their client_id, which is fetched from the "
        "internet. Turn it off where this server has no way there: such clients then register themselves.",
    )
