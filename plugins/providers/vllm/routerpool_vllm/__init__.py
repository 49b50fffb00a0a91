"""The models of a vLLM server. What is known of its ways stands in `vllm.yaml`, with its date and source.

    plugins:
      vllm: {}      # http://localhost:8000/v1
      rented: {use: vllm, base_url: "https://gpu.example/v1"}   # not local there; key: VLLM_API_KEY

It counts as local where its address is one of this machine or network.
"""

from __future__ import annotations

from typing import ClassVar

from routerpool import OpenAIProvider

__all__ = ["Vllm"]


class Vllm(OpenAIProvider):
    """One vLLM server. Its list of models is asked every minute, for it changes with the server's restart."""

    data: ClassVar[str | None] = "vllm.yaml"
    refresh_seconds = 60.0
