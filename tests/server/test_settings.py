from __future__ import annotations

from pathlib import Path

import pytest

from server.settings import Settings, SettingsError, load
from server.settings.loading import known_names
from server.settings.models import PROVIDER_ENVIRONMENT
from server.settings.replaced import REPLACED
from server.settings.table import markdown

ROOT_SECRET = "n3kS0mVt8cQ1xZ5rB7yL2wE9uJ4hG6fD-apoi"
GOOD = {"INNKEEPER_ROOT_SECRET": ROOT_SECRET, "INNKEEPER_PUBLIC_URL": "https://inn.example.com"}
REFERENCE = [
    "DATABASE_URL",
    "API_KEY_SECRET",
    "PROVIDER_KEY_SECRET",
    "NEXTAUTH_SECRET",
    "NEXTAUTH_URL",
    "OPENAI_API_KEY",
    "ANTHROPIC_API_KEY",
    "GOOGLE_AI_API_KEY",
    "GROQ_API_KEY",
    "MISTRAL_API_KEY",
    "RESEND_API_KEY",
    "RESEND_AUDIENCE_ID",
    "EMAIL_FROM_DEFAULT",
    "GITHUB_CLIENT_ID",
    "GITHUB_CLIENT_SECRET",
    "GOOGLE_CLIENT_ID",
    "GOOGLE_CLIENT_SECRET",
    "POSTHOG_API_KEY",
    "POSTHOG_HOST",
    "SENTRY_DSN",
    "SENTRY_ENVIRONMENT",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_REGION",
    "LANGFUSE_PUBLIC_KEY",
    "LANGFUSE_SECRET_KEY",
    "LANGFUSE_HOST",
    "LANGFUSE_BASE_URL",
]


def faults_of(environ: dict[str, str], **options: object) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load(environ, **options)  # type: ignore[arg-type]  # each test passes what load takes
    return caught.value.faults


@pytest.mark.promise("HOME-08")
@pytest.mark.parametrize("name", REFERENCE)
def test_every_variable_of_the_reference_is_read_or_listed_as_replaced_with_a_reason(name: str) -> None:
    replaced = {old.name: old for old in REPLACED}
    assert (name in known_names()) != (name in replaced)
    assert f"`{name}`" in markdown()
    if name in replaced:
        assert replaced[name].by in known_names()
        assert replaced[name].reason


@pytest.mark.promise("HOME-08")
def test_settings_are_nested_by_vendor() -> None:
    settings = load(
        GOOD
        | {
            "OPENAI_API_KEY": "sk-one",
            "RESEND_API_KEY": "re-two",
            "GITHUB_CLIENT_ID": "three",
            "LANGFUSE_BASE_URL": "https://langfuse.example.com/",
            "AWS_DEFAULT_REGION": "eu-north-1",
            "INNKEEPER_ALLOWED_HOSTS": "a.example.com, b.example.com,",
        }
    )
    assert settings.models.openai.api_key is not None
    assert settings.models.openai.api_key.get_secret_value() == "sk-one"
    assert settings.mail.resend.api_key is not None
    assert settings.oauth.github.client_id == "three"
    assert settings.langfuse.host == "https://langfuse.example.com"
    assert settings.aws.region == "eu-north-1"
    assert settings.house.allowed_hosts == ("a.example.com", "b.example.com")


@pytest.mark.promise("HOME-06")
def test_all_faults_are_told_at_once_as_sentences_without_any_value() -> None:
    faults = faults_of(
        {
            "DATABASE_URL": "mysql://user:hunter2hunter2@host/db",
            "INNKEEPER_ROOT_SECRET": "hunter2",
            "INNKEEPER_DRAIN_SECONDS": "hunter2",
            "INNKEEPER_ALOWED_HOSTS": "hunter2",
            "INNKEEPER_MODEL": "hunter2",
            "POSTHOG_HOST": "hunter2",
        }
    )
    assert [fault.split()[0] for fault in faults] == [
        "INNKEEPER_ALOWED_HOSTS",
        "INNKEEPER_ROOT_SECRET",
        "INNKEEPER_DRAIN_SECONDS",
        "DATABASE_URL",
        "INNKEEPER_MODEL",
        "POSTHOG_HOST",
        "INNKEEPER_PUBLIC_URL",
    ]
    assert "did you mean INNKEEPER_ALLOWED_HOSTS?" in faults[0]
    assert not any("hunter2" in fault for fault in faults)


@pytest.mark.promise("HOME-08")
@pytest.mark.parametrize("secret", ["short", "a" * 64, ""])
def test_production_refuses_a_missing_short_or_uniform_root_secret(secret: str) -> None:
    faults = faults_of(GOOD | {"INNKEEPER_ROOT_SECRET": secret})
    assert len(faults) == 1
    assert faults[0].startswith("INNKEEPER_ROOT_SECRET must be set" if not secret else "INNKEEPER_ROOT_SECRET ")


def test_development_needs_nothing() -> None:
    assert load({}, environment="development").house.root_secret is None


def test_the_environment_wins_over_dotenv_and_an_empty_variable_is_unset(tmp_path: Path) -> None:
    dotenv = tmp_path / ".env"
    dotenv.write_text("INNKEEPER_LOG_LEVEL=debug\nSENTRY_ENVIRONMENT='from file'\nEMAIL_FROM_DEFAULT=a@example.com\n")
    environ = {"INNKEEPER_LOG_LEVEL": "error", "SENTRY_ENVIRONMENT": ""}
    settings = load(environ, environment="development", dotenv=dotenv)
    assert settings.house.log_level == "error"
    assert settings.sentry.environment == "from file"
    assert settings.mail.sender == "a@example.com"


@pytest.mark.promise("HOME-08")
@pytest.mark.promise("GND-01")
def test_private_addresses_are_opened_by_name_or_all_at_once() -> None:
    def opened(value: str) -> list[str]:
        settings = load({"INNKEEPER_ALLOW_PRIVATE_URLS": value}, environment="development")
        return [str(network) for network in settings.outgoing.private]

    assert opened("192.168.1.0/24, fd12::/16") == ["192.168.1.0/24", "fd12::/16"]
    assert opened("10.0.0.7") == ["10.0.0.7/32"]
    assert {"127.0.0.0/8", "10.0.0.0/8", "::1/128"} <= set(opened("true"))
    assert opened("false") == opened("") == []
    fault = faults_of({"INNKEEPER_ALLOW_PRIVATE_URLS": "my network"}, environment="development")
    assert fault[0].startswith("INNKEEPER_ALLOW_PRIVATE_URLS must be true, false, or networks")


def test_keys_of_providers_leave_the_process_environment_once_read() -> None:
    environ = GOOD | dict.fromkeys(PROVIDER_ENVIRONMENT, "https://key.example.com") | {"PATH": "/bin"}
    settings = load(environ)
    assert environ == GOOD | {"PATH": "/bin"}
    assert settings.models.anthropic.api_key is not None


def test_printing_settings_shows_no_secret() -> None:
    environ = GOOD | {"OPENAI_API_KEY": "sk-visible", "DATABASE_URL": "postgres://u:visible@h/d"}
    settings = load(environ)
    assert "visible" not in repr(settings)
    assert ROOT_SECRET not in repr(settings)
    assert settings.database.url is not None
    assert settings.database.url.get_secret_value() == "postgresql://u:visible@h/d"


def test_no_secret_has_a_default() -> None:
    assert "SecretStr('**" not in repr(Settings())


@pytest.mark.promise("HOME-08")
def test_the_page_of_settings_is_what_the_code_says() -> None:
    page = Path(__file__).parents[2] / "docs" / "settings.md"
    assert page.read_text() == markdown(), "run: innkeeper settings --markdown > docs/settings.md"
