"""The contract kits: a good plugin passes, and each way to break the contract fails the test that is there for it."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterable
from textwrap import dedent, indent
from typing import Any

import pytest

from routerpool import ConfigError, OpenAIProvider, Router, Score, hookimpl
from routerpool.testing import Upstream, Witness

pytest_plugins = ["pytester"]

PROVIDER = """
import asyncio, json, logging, socket
from attrs import evolve
from routerpool import Failure, FailureKind, Model, OpenAIProvider, Pool
from routerpool.providers.replies import HttpReply
from routerpool.testing import ProviderContract

class Lab(OpenAIProvider):
    base_url = "https://api.lab.example/v1"
    api_key_env = "LAB_KEY"
    models = ("m1",)
{body}

class TestLab(ProviderContract):
    plugin = Lab
"""

STRATEGY = """
import random
from routerpool import Score, Veto, hookimpl
from routerpool.testing import StrategyContract

class Free:
    @hookimpl
    def score(self, request, features, candidates):
{body}

class TestFree(StrategyContract):
    plugin = Free
"""

GOOD = 'return [Score(c, float(c.model.free), {"free": float(c.model.free)}) for c in candidates]'

BROKEN_PROVIDERS = {
    "leaks its key in its repr": (
        """
        def __repr__(self):
            return f"<Lab {self.settings.key}>"
        """,
        {"test_its_key_is_never_told"},
    ),
    "logs its key": (
        """
        def idle(self):
            logging.getLogger("lab").debug("asked with %s", self.settings.key)
            return super().idle()
        """,
        {"test_its_key_is_never_told"},
    ),
    "quotes the provider's words in a failure": (
        """
        def failure(self, status, headers, body):
            return evolve(super().failure(status, headers, body), message=body.decode())
        """,
        {"test_its_key_is_never_told"},
    ),
    "follows redirects": (
        """
        async def send(self, attempt, request, session):
            body = {**request.params, "model": attempt.candidate.model.id, "messages": request.messages}
            if request.stream:
                body |= {"stream": True, "stream_options": {"include_usage": True}}
            return HttpReply(await session.post(self.chat_url, json=body, headers=self.request_headers))
        """,
        {"test_a_redirect_is_not_followed"},
    ),
    "ignores Retry-After": (
        """
        def failure(self, status, headers, body):
            return super().failure(status, {}, body)
        """,
        {"test_a_stated_wait_is_understood"},
    ),
    "takes every refusal for a fault of the server": (
        """
        def failure(self, status, headers, body):
            return Failure(kind=FailureKind.SERVER, message="it failed", status=status)
        """,
        {"test_a_refusal_is_of_its_kind", "test_a_stated_wait_is_understood"},
    ),
    "changes the client's request": (
        """
        def adapt(self, body, model):
            for tool in body.get("tools") or ():
                tool["strict"] = True
            return body
        """,
        {"test_the_clients_own_request_is_not_changed", "test_a_tool_call_arrives"},
    ),
    "does not ask for usage": (
        """
        def adapt(self, body, model):
            body.pop("stream_options", None)
            return body
        """,
        {
            "test_usage_is_recorded_though_the_client_did_not_ask_for_it",
            "test_usage_arrives_where_the_client_asks_for_it",
        },
    ),
    "sends its key in the body": (
        """
        def adapt(self, body, model):
            return body | {"user": self.settings.key}
        """,
        {"test_its_key_is_sent_as_a_header_and_no_other_key_is"},
    ),
    "sends a key that is not its own": (
        """
        def bind(self, env):
            super().bind(env)
            self.request_headers["X-Fallback"] = env.get("OPENAI_API_KEY", "")
        """,
        {"test_its_key_is_sent_as_a_header_and_no_other_key_is"},
    ),
    "is not idle without its key": (
        """
        def idle(self):
            return None
        """,
        {"test_without_its_key_it_is_idle_and_sends_nothing"},
    ),
    "calls its models local though they are not": (
        """
        models = (Model(id="m1", local=True),)
        """,
        {"test_its_models_are_well_formed", "test_it_is_not_local_at_a_public_address"},
    ),
    "does not tell of a quota that its models share": (
        """
        shared_quotas = (Pool(name="day"),)
        def pools(self):
            return {}
        """,
        {"test_it_tells_of_every_quota_that_its_models_share"},
    ),
    "claims to be local wherever it is": (
        """
        models = (Model(id="m1", local=True),)
        def settle(self, env):
            return evolve(super().settle(env), local=True)
        """,
        {"test_it_is_not_local_at_a_public_address"},
    ),
    "stumbles over one odd entry in the list of models": (
        """
        models_at = "models"
        def parse_models(self, payload):
            return [Model(id=entry["id"]) for entry in payload["data"]]
        """,
        {"test_rubbish_among_the_listed_models_is_left_out"},
    ),
    "leaves its connections open": (
        """
        async def send(self, attempt, request, session):
            own = socket.create_connection((self.chat_url.host, self.chat_url.port))
            own.sendall(b"GET /contract/v1/models HTTP/1.1\\r\\nhost: up\\r\\n\\r\\n")
            own.detach()
            return await super().send(attempt, request, session)
        """,
        {"test_an_answer_arrives_as_it_was_sent"},
    ),
}

BROKEN_STRATEGIES = {
    "answers with NaN": (
        'return [Score(c, float("nan")) for c in candidates]',
        {"test_points_lie_between_0_and_1"},
    ),
    "answers beyond 1": (
        "return [Score(c, c.model.rank or 0.0) for c in candidates]",
        {"test_points_lie_between_0_and_1"},
    ),
    "makes a candidate up": (
        """
        from routerpool import Candidate, Model
        return [Score(Candidate(provider="other", model=Model(id="m")), 1.0)]
        """,
        {"test_it_answers_with_scores_of_the_candidates_it_was_given"},
    ),
    "scores a candidate twice": (
        "return [Score(c, 0.5) for c in (*candidates, *candidates[:1])]",
        {"test_it_answers_with_scores_of_the_candidates_it_was_given"},
    ),
    "answers with a veto": (
        'return [Veto(c, "bad", "it is bad") for c in candidates]',
        {"test_it_answers_with_scores_of_the_candidates_it_was_given"},
    ),
    "has terms that are no numbers": (
        'return [Score(c, 0.5, {"price": float("inf")}) for c in candidates]',
        {"test_terms_are_named_and_finite"},
    ),
    "rolls dice without a seed": (
        "return [Score(c, random.random()) for c in candidates]",
        {"test_the_same_questions_get_the_same_answers"},
    ),
    "writes into what it is asked about": (
        """
        if isinstance(features.labels, dict):
            features.labels["seen"] = True
        return [Score(c, 0.5) for c in candidates]
        """,
        {"test_what_it_is_asked_about_is_not_changed"},
    ),
    "expects a candidate": (
        "return [Score(max(candidates, key=lambda c: c.key), 1.0)]",
        {"test_it_answers_with_scores_of_the_candidates_it_was_given"},
    ),
    "expects every message to have text": (
        """
        length = sum(len(message["content"]) for message in request.messages)
        return [Score(c, min(length, 1)) for c in candidates]
        """,
        {"test_points_lie_between_0_and_1"},
    ),
}


def outcome(pytester: pytest.Pytester, source: str, only: Iterable[str] = ("test",)) -> tuple[set[str], int, str]:
    """The names of the tests that failed in this file, how many passed, and what was printed."""
    path = pytester.makepyfile(source)
    choice = " or ".join(only)
    result = pytester.runpytest_inprocess("-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-k", choice, str(path))
    reports = result.reprec.getreports("pytest_runtest_logreport")  # type: ignore[attr-defined]  # set in process
    failed = {report.nodeid.rpartition("::")[2].partition("[")[0] for report in reports if report.failed}
    passed = sum(report.passed and report.when == "call" for report in reports)
    return failed, passed, result.stdout.str()


def provider(body: str) -> str:
    return PROVIDER.format(body=indent(dedent(body), "    "))


def strategy(body: str) -> str:
    return STRATEGY.format(body=indent(dedent(body).strip(), "        "))


def test_a_good_provider_passes(pytester: pytest.Pytester) -> None:
    failed, passed, _ = outcome(pytester, provider(""))
    assert not failed
    assert passed > 60


def test_a_good_strategy_passes(pytester: pytest.Pytester) -> None:
    failed, passed, _ = outcome(pytester, strategy(GOOD))
    assert not failed
    assert passed == 5


@pytest.mark.parametrize("fault", BROKEN_PROVIDERS)
def test_a_provider_that_breaks_the_contract_fails_it(pytester: pytest.Pytester, fault: str) -> None:
    body, expected = BROKEN_PROVIDERS[fault]
    failed, _, _ = outcome(pytester, provider(body), expected)
    assert failed == expected


@pytest.mark.parametrize("fault", BROKEN_STRATEGIES)
def test_a_strategy_that_breaks_the_contract_fails_it(pytester: pytest.Pytester, fault: str) -> None:
    body, expected = BROKEN_STRATEGIES[fault]
    failed, _, _ = outcome(pytester, strategy(body), expected)
    assert failed == expected


@pytest.mark.parametrize("fault", ["ignores Retry-After", "sends its key in the body"])
def test_nothing_else_fails_for_a_small_fault(pytester: pytest.Pytester, fault: str) -> None:
    body, expected = BROKEN_PROVIDERS[fault]
    assert outcome(pytester, provider(body))[0] == expected


def test_a_failed_contract_says_what_it_compared(pytester: pytest.Pytester) -> None:
    _, _, text = outcome(pytester, strategy("return [Score(c, 7.0) for c in candidates]"), ["points"])
    assert "assert 7.0 <= 1" in text


# The fixtures and make_router


class Loud:
    """A strategy that needs no installation."""

    @hookimpl
    def score(self, candidates: Any) -> list[Score]:
        return [Score(c, 1.0, {"loud": 1.0}) for c in candidates]


class Lab(OpenAIProvider):
    base_url = "https://api.lab.example/v1"
    models = ("m1",)


def test_the_upstream_serves_a_test_without_a_loop(upstream: Upstream) -> None:
    upstream.text("lab", "Good day.")
    body = json.dumps({"model": "m1", "messages": []}).encode()
    request = urllib.request.Request(f"{upstream.base_url('lab')}/chat/completions", body)
    with urllib.request.urlopen(request, timeout=5) as response:
        assert json.load(response)["choices"][0]["message"]["content"] == "Good day."
    assert upstream.seen("lab").chat == 1


def test_the_fixtures_work_together(upstream: Upstream, router: Callable[..., Router]) -> None:
    witness = Witness()
    config = {
        "plugins": {"lab": {"base_url": upstream.base_url("lab")}, "loud": {}},
        "profiles": {"auto": {"weights": {"loud": 1}}},
    }

    async def whole() -> None:
        upstream.script("lab", "http:500")
        made = router(config, plugins={"lab": Lab, "loud": Loud}, witness=witness)
        async with made as pool:
            explained = await pool.explain({"model": "auto", "messages": [{"role": "user", "content": "Hello"}]})
            assert explained["ranked"][0]["candidate"] == "lab/m1"
            answer = await pool.chat({"model": "auto", "messages": [{"role": "user", "content": "Hello"}]})
            assert answer["choices"][0]["message"]["content"] == upstream.expected_text("lab")

    asyncio.run(whole())
    assert [failure.kind.value for failure in witness.failures] == ["server"]
    assert [candidate.key for candidate, _ in witness.answered] == ["lab/m1"]
    [record] = witness.records
    assert record.tried == ("lab/m1:server", "lab/m1:answered")


def test_a_router_for_a_test_sees_no_key_of_the_machine(
    router: Callable[..., Router], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAB_KEY", "secret")
    config = {"plugins": {"lab": {"api_key_env": "LAB_KEY"}}}
    assert router(config, plugins={"lab": Lab}).providers["lab"].idle() == "LAB_KEY is not set"
    assert router(config, plugins={"lab": Lab}, env={"LAB_KEY": "k"}).providers["lab"].idle() is None


def test_a_wrong_config_is_an_error_and_not_half_a_router(router: Callable[..., Router]) -> None:
    with pytest.raises(ConfigError, match="no installed plugin is called 'nobody'"):
        router({"plugins": {"nobody": {}}})


def test_the_plugin_of_pytest_is_light() -> None:
    program = """
        import sys
        import routerpool.testing
        heavy = ("aiohttp", "attrs", "sqlalchemy", "yaml", "orjson", "routerpool.types", "routerpool.testing.upstream")
        print([name for name in heavy if name in sys.modules])
    """
    done = subprocess.run([sys.executable, "-c", dedent(program)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_name_that_the_kit_does_not_have_is_an_attribute_error() -> None:
    import routerpool.testing

    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = routerpool.testing.Nothing


def test_the_fixtures_are_there_whatever_a_conftest_has_imported(pytester: pytest.Pytester) -> None:
    pytester.makeconftest("from routerpool.testing.upstream import Upstream\n")
    path = pytester.makepyfile("def test_them(upstream, router):\n    assert upstream.base_url('a')\n")

    result = pytester.runpytest_subprocess("-q", "-p", "no:cacheprovider", "-p", "no:xdist", str(path))

    result.assert_outcomes(passed=1)
