"""Hugging Face's router of inference providers. What is known of it stands in `huggingface.yaml`, with its date."""

from __future__ import annotations

from typing import ClassVar

from routerpool import OpenAIProvider

__all__ = ["HuggingFace"]


class HuggingFace(OpenAIProvider):
    """Hugging Face. A model's id may end with the provider that shall answer, as in `openai/gpt-oss-120b:groq`."""

    data: ClassVar[str | None] = "huggingface.yaml"
