"""What a start shows, in few lines and no wider than the terminal."""

from __future__ import annotations

from typing import Any

import pytest

from routerpool.terminal.banner import banner

URL = "http://127.0.0.1:4545"


def provider(name: str, models: int = 1, *, local: bool = False, silent: str | None = None) -> dict[str, Any]:
    return {"name": name, "models": models, "local": local, "silent": silent}


def told(*providers: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {
        "version": "0.2.0",
        "url": URL,
        "config": "/home/ada/routerpool.yaml",
        "keys": False,
        "plugins": 22,
        "workers": 2,
        "privacy": "public may leave this machine; private and above stay here",
        "providers": list(providers),
        "notes": [],
        **changes,
    }


def lines(*providers: dict[str, Any], width: int = 80, **changes: Any) -> list[str]:
    return list(banner(told(*providers, **changes), width))


MANY = [provider(f"provider-{number}", number + 1) for number in range(12)]


def test_a_start_is_told_in_ten_lines() -> None:
    shown = lines(provider("groq", 3), provider("ollama", 3, local=True), provider("vllm", 0, silent="nobody listens"))
    assert shown == [
        f" routerpool 0.2.0{' ' * 42}{URL}",
        "",
        " answers  groq 3 · ollama 3 (local)",
        " off      ! vllm  nobody listens",
        " privacy  public may leave this machine; private and above stay here",
        " config   /home/ada/routerpool.yaml · 22 plugins · 2 workers",
        f" use      OPENAI_BASE_URL={URL}/v1 OPENAI_API_KEY=unused",
        "",
    ]


@pytest.mark.parametrize("width", [60, 80, 120])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    shown = lines(*MANY, provider("far", 0, silent="x" * 300), width=width, notes=["GROQ_API_KEY is set → groq"] * 9)
    assert [line for line in shown if len(line) > width and "http" not in line] == []


def test_those_that_only_lack_a_key_are_counted() -> None:
    keyless = [provider(f"p{number}", silent=f"P{number}_API_KEY is not set") for number in range(15)]
    shown = lines(provider("groq"), *keyless, provider("vllm", 0, silent="nobody listens on 127.0.0.1:8000"))
    assert [line for line in shown if "API_KEY is not set" in line] == []
    assert "15 without a key: routerpool doctor" in "\n".join(shown)
    assert " off      ! vllm  nobody listens on 127.0.0.1:8000" in shown


def test_few_that_lack_a_key_are_named() -> None:
    assert " off      ! groq  GROQ_API_KEY is not set" in lines(provider("groq", silent="GROQ_API_KEY is not set"))


def test_many_troubles_are_a_count() -> None:
    shown = lines(*[provider(f"p{number}", 0, silent="nobody listens") for number in range(9)])
    assert len(shown) <= 13
    assert "5 more: routerpool doctor" in "\n".join(shown)


def test_nobody_who_answers_has_its_cure() -> None:
    assert "set a provider's key, start Ollama" in " ".join(lines())


def test_an_address_for_all_is_one_that_can_be_pasted_and_a_key_is_asked_for() -> None:
    shown = lines(provider("groq"), url="http://0.0.0.0:4545", keys=True)
    assert shown[-2] == " use      OPENAI_BASE_URL=http://127.0.0.1:4545/v1 OPENAI_API_KEY=<your key>"


def test_what_was_found_is_told_where_there_is_no_file() -> None:
    shown = "\n".join(lines(provider("groq"), config=None, notes=["GROQ_API_KEY is set → groq"]))
    assert " found    GROQ_API_KEY is set → groq" in shown
    assert "routerpool init" in shown


def test_a_provider_cannot_steer_the_terminal() -> None:
    assert "\x1b" not in "\n".join(lines(provider("evil", 0, silent="\x1b[2J gone")))
