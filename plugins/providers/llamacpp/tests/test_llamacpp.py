"""A GGUF file or a llama-server: which one, where it is looked for, and (marked real) the engine itself."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest
from routerpool_llamacpp import LlamaCpp, LlamaCppConfig, flaw_of

from routerpool import AnswerError, ConfigError, Level, Probe, RequestError
from routerpool.testing import ProviderContract, Upstream, Witness, make_router

CURE = "needs the wheels of a real engine: uv run --all-packages --group real pytest -m real"
PLUGINS = {"llamacpp": LlamaCpp}
HELLO = [{"role": "user", "content": "Will it rain?"}]


class TestAServerElsewhere(ProviderContract):
    plugin = LlamaCpp
    forms = "forms.yaml"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.gguf"
    path.write_bytes(b"GGUF")
    return path


def test_the_servers_own_list_tells_context_and_senses() -> None:
    entry = {"id": "tiny", "meta": {"n_ctx": 1024, "n_ctx_train": 4096}, "architecture": {"input_modalities": ["text"]}}
    seeing = {"id": "seer", "meta": None, "architecture": {"input_modalities": ["text", "image"]}}
    tiny, seer, bare = LlamaCpp().parse_models({"data": [entry, seeing, {"id": "bare"}]})
    assert (tiny.id, tiny.context, tiny.local, tiny.free) == ("tiny", 1024, True, True)
    assert tiny.capabilities == {"vision": False, "audio": False}
    assert seer.capabilities["vision"] is True
    assert (bare.context, dict(bare.capabilities)) == (None, {})


def test_a_file_is_one_local_model_by_its_name(file: Path) -> None:
    router = make_router({"plugins": {"llamacpp": {"model": str(file)}}}, plugins=PLUGINS)
    [candidate] = router.catalog.snapshot.candidates
    assert (candidate.key, candidate.model.local, candidate.model.free) == ("llamacpp/tiny", True, True)


def test_the_environment_names_the_file(file: Path) -> None:
    router = make_router({"plugins": {"llamacpp": {}}}, plugins=PLUGINS, env={"ROUTERPOOL_GGUF": str(file)})
    assert [candidate.key for candidate in router.catalog.snapshot.candidates] == ["llamacpp/tiny"]


@pytest.mark.parametrize("env", [{}, {"ROUTERPOOL_GGUF": "no/such/file.gguf"}])
def test_without_a_file_it_is_idle_and_says_what_to_set(env: dict[str, str]) -> None:
    provider = LlamaCpp()
    provider.bind(env)
    assert "ROUTERPOOL_GGUF" in (provider.idle() or "")
    [report] = provider.check(Probe(env=env))
    assert report.level is Level.NOTE


def test_the_environment_names_a_server() -> None:
    provider, public = LlamaCpp(name="llamacpp"), LlamaCpp(name="llamacpp")
    provider.bind({"LLAMACPP_BASE_URL": "http://box:9931/v1"})
    assert (provider.idle(), provider.base_url, provider.local) == (None, "http://box:9931/v1", True)
    public.bind({"LLAMACPP_BASE_URL": "https://llama.example/v1"})
    assert (public.base_url, public.local, public.free) == ("https://llama.example/v1", False, False)


def test_its_facts_have_a_date_and_a_source() -> None:
    data = LlamaCpp().facts
    assert data.date
    assert data.source


def test_nothing_is_sent_while_the_engine_does_not_run(file: Path) -> None:
    provider = LlamaCpp(LlamaCppConfig(model=file))
    provider.bind({})
    assert provider.idle() == "its engine does not run"


@pytest.mark.parametrize(
    ("section", "word"),
    [
        ({"model": "no/such/file.gguf"}, "there is no file"),
        ({"model": "FILE", "base_url": "http://127.0.0.1:1/v1"}, "leave one of them out"),
        ({"base_url": "https://llama.example/v1", "local": True}, "public address"),
        ({"model": "FILE", "parallel": 0}, "parallel"),
        ({"model": "FILE", "context": -1}, "context"),
        ({"model": "FILE", "ctx": 1}, "unknown key"),
    ],
)
def test_a_wrong_section_says_what_to_mend(section: dict[str, Any], word: str, file: Path) -> None:
    section = {key: str(file) if value == "FILE" else value for key, value in section.items()}
    with pytest.raises(ConfigError, match=word):
        make_router({"plugins": {"llamacpp": section}}, plugins=PLUGINS)


def without_the_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    monkeypatch.setattr("routerpool_llamacpp.find_spec", lambda _: None)


def test_without_the_wheel_it_is_switched_off_with_the_cure(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_the_wheel(monkeypatch)

    async def whole() -> None:
        async with make_router({"plugins": {"llamacpp": {"model": str(file)}}}, plugins=PLUGINS) as router:
            instance = router.hooks.instances["llamacpp"]
            assert not instance.enabled
            assert "routerpool-llamacpp[engine]" in (instance.last_fault or "")
            with pytest.raises(RequestError, match="switched off"):
                await router.chat({"model": "auto", "messages": HELLO})

    asyncio.run(whole())


def test_doctor_says_how_to_get_the_wheel(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_the_wheel(monkeypatch)
    [report] = LlamaCpp(LlamaCppConfig(model=file)).check(Probe())
    assert (report.level, "routerpool-llamacpp[engine]" in report.cure) == (Level.ERROR, True)


def test_files_are_looked_for_here_and_in_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, models = tmp_path / "here", tmp_path / "models"
    for path in (
        here / "b.gguf",
        here / "mmproj-b.gguf",
        here / "notes.txt",
        models / "a-00002-of-00003.gguf",
        models / "a-00001-of-00003.gguf",
    ):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"GGUF")
    monkeypatch.chdir(here)
    monkeypatch.setattr("routerpool_llamacpp.find_spec", lambda _: object())
    [found] = LlamaCpp(name="llamacpp").detect(Probe(env={"HOME": str(tmp_path)}))
    assert found.options == {"model": str(here / "b.gguf")}
    assert found.confidence >= 0.5
    assert "a-00001-of-00003.gguf" in found.comment
    assert "mmproj" not in found.comment
    assert "00002" not in found.comment
    monkeypatch.setattr("routerpool_llamacpp.find_spec", lambda _: None)
    [unable] = LlamaCpp().detect(Probe(env={"HOME": str(tmp_path)}))
    assert unable.confidence < 0.5
    assert "engine" in unable.comment


def test_what_the_environment_names_is_found_first(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other.gguf").write_bytes(b"GGUF")
    [found] = LlamaCpp().detect(Probe(env={"ROUTERPOOL_GGUF": str(file)}))
    assert (found.environment, dict(found.options)) == (("ROUTERPOOL_GGUF",), {})
    assert list(LlamaCpp().detect(Probe(env={"ROUTERPOOL_GGUF": "nothing.gguf"}))) == []


# The engine


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for wheel in ("gguf", "numpy", "xllamacpp"):
        pytest.importorskip(wheel, reason=CURE)
    source = Path(__file__).parents[4] / "tests" / "real" / "gguf_model.py"
    spec = spec_from_file_location("gguf_model", source)
    assert spec is not None
    assert spec.loader is not None
    maker = module_from_spec(spec)
    spec.loader.exec_module(maker)
    path: Path = maker.write_tiny_model(tmp_path_factory.mktemp("model") / "tiny.gguf")
    return path


def real(model: Path, **section: Any) -> tuple[Any, Witness]:
    witness = Witness()
    config = {
        "plugins": {"llamacpp": {"model": str(model), "threads": 1, "context": 512, **section}},
        "limits": {"max_attempts": 1},
    }
    return make_router(config, plugins=PLUGINS, witness=witness), witness


@pytest.mark.real
def test_a_real_model_answers_plain_and_streamed(model: Path) -> None:
    router, witness = real(model)

    async def whole() -> None:
        async with router:
            [candidate] = router.catalog.snapshot.candidates
            assert (candidate.key, candidate.model.context) == ("llamacpp/tiny", 512)
            body = {"model": "auto", "messages": HELLO, "max_tokens": 8, "seed": 1, "router": {"privacy": "secret"}}
            answer = await router.chat(body)
            text = answer["choices"][0]["message"]["content"]
            chunks = [chunk async for chunk in router.stream(body)]
            streamed = "".join(c["delta"].get("content") or "" for chunk in chunks for c in chunk["choices"])
            assert text.split()
            assert streamed == text
            assert [record.usage.source for record in witness.records] == ["reported", "reported"]
            assert witness.records[0].usage.output == answer["usage"]["completion_tokens"] > 0
            assert all(chunk["choices"] for chunk in chunks)

    asyncio.run(whole())


@pytest.mark.real
def test_the_engine_is_behind_a_key_and_ends_with_the_router(model: Path) -> None:
    import aiohttp

    router, _ = real(model)

    async def whole() -> None:
        async with aiohttp.ClientSession() as stranger:
            async with router:
                provider = router.providers["llamacpp"]
                url = f"{provider.base_url}/chat/completions"
                assert url.startswith("http://127.0.0.1:")
                async with stranger.post(url, json={"messages": HELLO}) as response:
                    assert response.status == 401
                told = repr([provider, await router.status(), await router.check()])
                assert provider.settings.key
                assert provider.settings.key not in told
            with pytest.raises(aiohttp.ClientConnectionError):
                await stranger.get(url)
            assert provider.idle() is not None

    asyncio.run(whole())


@pytest.mark.real
def test_each_of_two_parallel_requests_has_the_whole_context(model: Path) -> None:
    router, _ = real(model, parallel=2)

    async def whole() -> None:
        async with router:
            [candidate] = router.catalog.snapshot.candidates
            assert candidate.model.context == 512
            body = {"model": "auto", "messages": HELLO, "max_tokens": 8}
            answers = await asyncio.gather(*(router.chat(body) for _ in range(4)))
            assert all(answer["choices"][0]["message"]["content"] for answer in answers)

    asyncio.run(whole())


@pytest.mark.real
def test_a_prompt_beyond_the_context_is_too_large(model: Path) -> None:
    router, witness = real(model)

    async def whole() -> None:
        async with router:
            body = {"model": "llamacpp/tiny", "messages": [{"role": "user", "content": "rain " * 450}]}
            with pytest.raises(AnswerError) as refused:
                await router.chat(body)
            assert refused.value.body["error"]["type"] == "exceed_context_size_error"
            assert [failure.kind.value for failure in witness.failures] == ["too_large"]

    asyncio.run(whole())


@pytest.mark.real
def test_a_file_that_is_no_model_is_named(file: Path) -> None:
    pytest.importorskip("xllamacpp", reason=CURE)
    router, _ = real(file)

    async def whole() -> None:
        async with router:
            instance = router.hooks.instances["llamacpp"]
            assert not instance.enabled
            assert "tiny.gguf" in (instance.last_fault or "")

    asyncio.run(whole())


async def until_it_answers(router: Any, body: dict[str, Any]) -> dict[str, Any]:
    async with asyncio.timeout(60):
        while True:
            try:
                answer: dict[str, Any] = await router.chat(body)
            except RequestError:
                await asyncio.sleep(0.05)
            else:
                return answer


@pytest.mark.real
def test_an_engine_that_dies_fails_like_any_provider_and_is_started_again(model: Path) -> None:
    router, witness = real(model)

    async def whole() -> None:
        async with router:
            provider = router.providers["llamacpp"]
            address, first = provider.base_url, provider.status()["pid"]
            os.kill(first, signal.SIGKILL)
            body = {"model": "auto", "messages": HELLO, "max_tokens": 4}
            with pytest.raises(RequestError):
                await router.chat(body)
            assert {failure.kind.value for failure in witness.failures} <= {"connect", "stream_cut", "server"}
            assert (await until_it_answers(router, body))["choices"]
            assert provider.base_url == address
            assert provider.status()["restarts"] >= 1
            assert provider.status()["pid"] != first

    asyncio.run(whole())


OWNER = """
import asyncio, sys
from routerpool import Router
async def main():
    async with Router.of({"plugins": {"llamacpp": {"model": sys.argv[1], "threads": 1, "context": 512}}}) as router:
        print(router.providers["llamacpp"].status()["pid"], flush=True)
        await asyncio.Event().wait()
asyncio.run(main())
"""


@pytest.mark.real
def test_an_engine_does_not_outlive_a_router_that_was_killed(model: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", OWNER, str(model)], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        engine = os.pidfd_open(int(owner.stdout.readline()))
        owner.kill()
    ended, _, _ = select.select([engine], [], [], 60)
    os.close(engine)
    assert ended


def test_an_upstream_elsewhere_is_reached_without_any_key() -> None:
    async def whole() -> None:
        async with Upstream() as up:
            section = {"use": "llamacpp", "base_url": up.base_url("box")}
            async with make_router({"plugins": {"box": section}}, plugins=PLUGINS) as router:
                await router.chat({"model": "box/m1", "messages": HELLO})
            assert "authorization" not in up.seen("box").last.headers

    asyncio.run(whole())


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"<!DOCTYPE html><html><body>", "no GGUF file"),
        (b"", "no GGUF file"),
        (b"GGUF" + b"\3\0\0\0", "cut off"),
        (b"GGUF" + b"\1\0\0\0" + bytes(16), "version 1"),
        (b"GGUF" + b"\0\0\0\3" + bytes(16), "does not read"),
    ],
)
def test_doctor_sees_by_its_header_that_a_file_is_no_model(header: bytes, words: str, tmp_path: Path) -> None:
    file = tmp_path / "a.gguf"
    file.write_bytes(header)
    [report] = LlamaCpp(LlamaCppConfig(model=file), name="llamacpp").check(Probe(env={}))
    assert report.level is Level.ERROR
    assert words in f"{report.text}; {report.cure}"
    assert flaw_of(tmp_path / "nothing.gguf") is not None


def test_doctor_is_content_with_the_header_of_a_model(model: Path) -> None:
    assert flaw_of(model) is None
