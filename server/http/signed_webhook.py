"""Signatures of incoming webhooks: Standard Webhooks, which Svix made and Resend sends, over the raw bytes.

Names of the headers may begin with ``webhook-`` or ``svix-``. A timestamp may be five minutes off; of several
signatures, as there are while a secret is changed, one has to match.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from standardwebhooks import Webhook, WebhookVerificationError

from db.errors import AppError

PREFIXES: Final = ("webhook-", "svix-")
FIELDS: Final = ("id", "timestamp", "signature")
LONGEST_ID: Final = 200


def verified(body: bytes, headers: Mapping[str, str], secret: str | None) -> str:
    """The id of the message, the same each time it is sent. Raises ``AppError`` 403 for one that is not signed with
    ``secret``, or when there is none: which of them it was, nobody is told."""
    said = _said(headers)
    if secret is None or said is None:
        raise _refused()
    try:
        Webhook(secret).verify(body, said, json_parse=False)
    except (WebhookVerificationError, ValueError):
        raise _refused() from None
    return said["webhook-id"]


def _said(headers: Mapping[str, str]) -> dict[str, str] | None:
    """The three headers under the names of the standard, with those signatures alone that can be one."""
    for prefix in PREFIXES:
        found = {f"webhook-{name}": headers.get(prefix + name, "") for name in FIELDS}
        if all(found.values()) and len(found["webhook-id"]) <= LONGEST_ID:
            signatures = [one for one in found["webhook-signature"].split(" ") if one.count(",") == 1]
            return {**found, "webhook-signature": " ".join(signatures)}
    return None


def _refused() -> AppError:
    return AppError(
        "webhook_refused",
        403,
        "This webhook is not signed with the secret of this endpoint, or not in the last five minutes.",
        "Compare the signing secret at the sender with the one that was entered here, and both clocks.",
    )
