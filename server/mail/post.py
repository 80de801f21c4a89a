"""The post of the house: by what mail goes, and what is in it that only we can make or read.

Nothing is imported or opened before the first mail: most processes never send one.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Final
from uuid import UUID

from db import email_accounts
from server.mail.carrier import Carrier
from server.mail.unsubscribe import UnsubscribeLinks
from server.vault import Vault
from tools.mailboxes import Mailbox
from tools.ports import MailRules

if TYPE_CHECKING:
    import httpx2

    from server.integrations.resend_platform import PlatformResend
    from server.integrations.resend_project import ProjectResend
    from server.keyring import Keyring
    from server.settings.mail import MailSettings

NOBODY: Final = "Innkeeper <innkeeper@localhost>"
"""The sender of mail that only stays here to be read."""


class Post:
    """``public_url``: where people find the pages that mails lead to."""

    def __init__(self, settings: MailSettings, keyring: Keyring, public_url: str) -> None:
        self._settings = settings
        self.keyring = keyring
        self.vault = Vault(keyring)
        self.public_url = public_url
        self.sender = Mailbox.written(settings.sender or NOBODY)
        self.links = UnsubscribeLinks(keyring, public_url)

    @property
    def rules(self) -> MailRules:
        return MailRules(sender=str(self.sender))

    @property
    def leaves(self) -> bool:
        """Whether the house's own mail goes anywhere, or only stays here to be read."""
        return self._settings.resend.api_key is not None or self._settings.smtp.host is not None

    @property
    def webhook_secret(self) -> str | None:
        """Of the house's own account at Resend."""
        secret = self._settings.resend.webhook_secret
        return secret.get_secret_value() if secret else None

    @property
    def house(self) -> Carrier | None:
        """What carries the house's mail, and that of projects without an account of their own."""
        return self.platform or self._smtp

    def carrier_of(self, project_id: UUID, sealed_key: bytes | None) -> Carrier | None:
        """What carries the mail of a project that has this key, or none. Raises ``AppError`` for one that nobody can
        open any more."""
        if sealed_key is None:
            return self.house
        return self.account(self.vault.open(project_id, email_accounts.SEALED, sealed_key, "api_key"))

    def account(self, api_key: str) -> ProjectResend:
        from server.integrations.resend_project import BASE_URL, ProjectResend

        return ProjectResend(api_key, self._client, self._settings.resend.api_url or BASE_URL)

    @cached_property
    def platform(self) -> PlatformResend | None:
        settings = self._settings.resend
        if settings.api_key is None:
            return None
        from server.integrations.resend_platform import PlatformResend

        return PlatformResend(settings.api_key.get_secret_value(), self._client, settings.api_url, settings.segment_id)

    @cached_property
    def _smtp(self) -> Carrier | None:
        settings = self._settings.smtp
        if settings.host is None:
            return None
        from server.integrations.smtp import SmtpAccount, SmtpCarrier

        security = settings.security or ("tls" if settings.port == 465 else "starttls")
        return SmtpCarrier(
            SmtpAccount(
                host=settings.host,
                port=settings.port or (465 if security == "tls" else 587),
                security=security,
                username=settings.username,
                password=settings.password.get_secret_value() if settings.password else None,
                ca_file=settings.ca_file,
            )
        )

    @cached_property
    def _client(self) -> httpx2.AsyncClient:
        import httpx2

        return httpx2.AsyncClient(trust_env=False, follow_redirects=False)

    async def aclose(self) -> None:
        if "_client" in self.__dict__:
            await self._client.aclose()
