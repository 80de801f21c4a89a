"""Model providers of the platform. A project's own keys are data, not settings.

These variables are taken out of the process environment once read, so that no SDK can fall back to them for a tenant.
"""

from __future__ import annotations

from pydantic import Field, SecretStr, ValidationInfo, field_validator

from db import model_ids
from db.errors import AppError
from server.settings.section import HttpUrl, Section, variable

PROVIDER_ENVIRONMENT = frozenset(
    {
        "OPENAI_API_KEY", "OPENAI_ADMIN_KEY", "OPENAI_BASE_URL", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID",
        "OPENAI_WEBHOOK_SECRET", "ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_BASE_URL", "GOOGLE_AI_API_KEY",
        "GOOGLE_API_KEY", "GEMINI_API_KEY", "GROQ_API_KEY", "GROQ_BASE_URL", "MISTRAL_API_KEY", "RESEND_API_KEY",
        "LANGFUSE_PUBLIC_KEY", "LANGFUSE_SECRET_KEY",
    }
)  # fmt: skip
"""What the providers' SDKs read by themselves, whether or not Innkeeper does."""


class OpenAISettings(Section):
    api_key: SecretStr | None = variable("OPENAI_API_KEY", description="The platform's key for OpenAI.")
    base_url: HttpUrl | None = variable(
        "OPENAI_BASE_URL",
        description="Where `INNKEEPER_MODEL` is served instead of OpenAI; the key then goes only there.",
    )


class AnthropicSettings(Section):
    api_key: SecretStr | None = variable(
        "ANTHROPIC_API_KEY", description="The platform's key for Anthropic.", used_from="further model providers"
    )


class GoogleSettings(Section):
    api_key: SecretStr | None = variable(
        "GOOGLE_AI_API_KEY",
        "GEMINI_API_KEY",
        "GOOGLE_API_KEY",
        description="The platform's key for Google's models.",
        used_from="further model providers",
    )


class GroqSettings(Section):
    api_key: SecretStr | None = variable(
        "GROQ_API_KEY", description="The platform's key for Groq.", used_from="further model providers"
    )


class MistralSettings(Section):
    api_key: SecretStr | None = variable(
        "MISTRAL_API_KEY", description="The platform's key for Mistral.", used_from="further model providers"
    )


class EmbeddingSettings(Section):
    model: str | None = variable(
        "INNKEEPER_EMBEDDING_MODEL",
        description="Lets searches in registries go by meaning too, such as `text-embedding-3-small`. Needs pgvector.",
    )
    base_url: HttpUrl | None = variable(
        "INNKEEPER_EMBEDDING_BASE_URL", description="Where that model is served, if not by OpenAI."
    )
    api_key: SecretStr | None = variable(
        "INNKEEPER_EMBEDDING_API_KEY", description="Its key. Default: `OPENAI_API_KEY`, when OpenAI serves it."
    )


class ModelSettings(Section):
    """Which models runs may use, in the order: the project's, this default, a detected one, the local model."""

    openai: OpenAISettings = Field(default_factory=OpenAISettings)
    default: str | None = variable(
        "INNKEEPER_MODEL", description="The model of a project that names none, such as `openai:gpt-5.2`."
    )
    anthropic: AnthropicSettings = Field(default_factory=AnthropicSettings)
    google: GoogleSettings = Field(default_factory=GoogleSettings)
    groq: GroqSettings = Field(default_factory=GroqSettings)
    mistral: MistralSettings = Field(default_factory=MistralSettings)
    embeddings: EmbeddingSettings = Field(default_factory=EmbeddingSettings)

    @field_validator("default")
    @classmethod
    def _is_a_model_id(cls, default: str | None, info: ValidationInfo) -> str | None:
        openai = info.data.get("openai")
        if default is not None and isinstance(openai, OpenAISettings):
            try:
                model_ids.parse(default, openai.base_url)
            except AppError:
                raise ValueError(f"must be one of {model_ids.SUPPORTED} (OPENAI_BASE_URL)") from None
        return default
