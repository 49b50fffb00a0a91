"""How a router that lives in somebody else's process ends with it, and what becomes of a file that is wrong."""

from __future__ import annotations

import json

import openai
import pytest

from routerpool.testing.upstream import Upstream

from .conftest import Start

pytestmark = pytest.mark.real

CONFIG = {
    "model_list": [{"model_name": "auto", "litellm_params": {"model": "routerpool/auto"}}],
    "litellm_settings": {
        "custom_provider_map": [{"provider": "routerpool", "custom_handler": "routerpool_litellm.llm.handler"}],
        "num_retries": 0,
    },
}


def test_the_router_is_stopped_with_the_proxy(start: Start, up: Upstream) -> None:
    ours = {"plugins": {"lab": {"use": "openai_compatible", "base_url": up.base_url("lab"), "models": ["m1"]}}}
    with start(CONFIG, ours, up) as at:
        up.always("lab", "infinite")
        stream = at.say("Hello", stream=True)
        next(stream)
    assert [json.loads(line)["id"] for line in at.book.read_text().splitlines()][-1] == ""
    assert at.up.seen("lab").aborts == 1


def test_a_file_that_is_wrong_refuses_every_request_and_is_told_to_the_log_only(start: Start, up: Upstream) -> None:
    with start(CONFIG, {"plugins": {"lab": {"use": "openai_compatible", "base_url": 7}}}, up) as at:
        with pytest.raises(openai.InternalServerError) as refused:
            at.say("Hello")
        assert "its log says why" in str(refused.value)
        assert "base_url" not in str(refused.value)
        assert "plugins.lab.base_url" in at.proxy.log.read_text()
