"""How the house sends mail: by Resend, else by SMTP, else not at all, and then it can be read on a page."""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, SecretStr

from server.settings.section import HttpUrl, Section, variable
from tools.mailboxes import Mailbox

WEBHOOK_PREFIX = "whsec_"


def _check_sender(value: str) -> str:
    mailbox = Mailbox.written(value)
    if "@" not in mailbox.address:
        raise ValueError("must be an address, such as Innkeeper <mail@innkeeper.example.com>")
    return str(mailbox)


def is_webhook_secret(text: str) -> bool:
    """Whether ``text`` has the form of a signing secret (Standard Webhooks): ``whsec_`` and 16 bytes or more."""
    said = text.removeprefix(WEBHOOK_PREFIX).rstrip("=")
    try:
        key = base64.b64decode(said + "=" * (-len(said) % 4), validate=True)
    except (binascii.Error, ValueError):
        return False
    return text.startswith(WEBHOOK_PREFIX) and len(key) >= 16


def _check_webhook_secret(value: SecretStr) -> SecretStr:
    if not is_webhook_secret(value.get_secret_value()):
        raise ValueError("must be the signing secret that Resend shows for the webhook: whsec_ and base64 after it")
    return value


WebhookSecret = Annotated[SecretStr, AfterValidator(_check_webhook_secret)]


class ResendSettings(Section):
    api_key: SecretStr | None = variable("RESEND_API_KEY", description="Sends mail through Resend.")
    webhook_secret: WebhookSecret | None = variable(
        "RESEND_WEBHOOK_SECRET", description="The signing secret of Resend's webhook to `/webhooks/resend`."
    )
    segment_id: str | None = variable(
        "RESEND_SEGMENT_ID", "RESEND_AUDIENCE_ID", description="The Resend segment that new accounts join."
    )
    api_url: HttpUrl | None = variable("RESEND_API_URL", description="Where Resend is. Default: its own address.")


class SmtpSettings(Section):
    host: str | None = variable("SMTP_HOST", description="Sends mail by SMTP when there is no `RESEND_API_KEY`.")
    port: Annotated[int, Field(ge=1, le=65535)] | None = variable(
        "SMTP_PORT", description="Default: 587, with `SMTP_SECURITY=tls` 465."
    )
    security: Literal["starttls", "tls", "none"] | None = variable(
        "SMTP_SECURITY",
        description="`starttls`, `tls` from the first byte, or `none`, which is for a server on this machine. "
        "Default: `tls` on port 465, else `starttls`.",
    )
    username: str | None = variable("SMTP_USERNAME", description="With it the house signs in before it sends.")
    password: SecretStr | None = variable("SMTP_PASSWORD", description="The password of that account.")
    ca_file: str | None = variable(
        "SMTP_CA_FILE",
        description="A PEM file with the authority that signed the server's certificate, if it is yours.",
    )


class MailSettings(Section):
    sender: Annotated[str, AfterValidator(_check_sender)] | None = variable(
        "EMAIL_FROM_DEFAULT",
        description="The sender of all mail, but that of projects with an account of their own at Resend. "
        "Set it with `RESEND_API_KEY` or `SMTP_HOST`.",
    )
    resend: ResendSettings = Field(default_factory=ResendSettings)
    smtp: SmtpSettings = Field(default_factory=SmtpSettings)
