"""Secrets are found by form and by context, wherever they stand, by both engines alike."""

from __future__ import annotations

import asyncio
import base64
import gzip
import importlib.util
import json
import os
import random
import string
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from routerpool_secrets import Secrets, SecretsConfig
from routerpool_secrets.engine import engine_for
from routerpool_secrets.rules import load, own_rules
from routerpool_secrets.values import entropy_of

from routerpool import ConfigError, Features, OpenAIProvider, Privacy
from routerpool.privacy import parts_of
from routerpool.testing import make_router
from routerpool.testing.scanner_contract import ScannerContract
from routerpool.wire import parse_chat

DICE = random.Random(7)
LETTERS = string.ascii_letters + string.digits
SHARED = Path(os.environ.get("ROUTERPOOL_SHARED", Path(__file__).parents[4].parent / "shared"))
GITLEAKS = SHARED / "data" / "gitleaks" / "gitleaks.toml"
with_re2 = pytest.mark.skipif(importlib.util.find_spec("re2") is None, reason="google-re2 is not installed")
with_gitleaks = pytest.mark.skipif(not GITLEAKS.exists(), reason="the shared gitleaks file is not here")


@pytest.fixture(autouse=True)
def nothing_compiled_yet() -> None:
    """Each test compiles for itself: some pretend that an engine is not there."""
    engine_for.cache_clear()


def some(count: int, of: str = LETTERS) -> str:
    return "".join(DICE.choices(of, k=count))


HEX, UPPER, LOWER = "0123456789abcdef", string.ascii_uppercase + "234567", string.ascii_lowercase + string.digits
KEY = "-----BEGIN {0}PRIVATE KEY-----\n" + "\n".join(some(64) for _ in range(6)) + "\n-----END {0}PRIVATE KEY-----"
TOKENS: dict[str, str] = {
    "openai-api-key": f"sk-proj-{some(74)}T3BlbkFJ{some(74)}",
    "sk-api-key": f"sk-{some(48)}",
    "anthropic-api-key": f"sk-ant-api03-{some(93)}AA",
    "openrouter-api-key": f"sk-or-v1-{some(64, HEX)}",
    "groq-api-key": f"gsk_{some(52)}",
    "google-api-key": f"AIza{some(35)}",
    "huggingface-token": f"hf_{some(34)}",
    "xai-api-key": f"xai-{some(80)}",
    "replicate-token": f"r8_{some(37)}",
    "perplexity-api-key": f"pplx-{some(48)}",
    "nvidia-api-key": f"nvapi-{some(64)}",
    "cerebras-api-key": f"csk-{some(48, LOWER)}",
    "aws-access-key-id": f"AKIA{some(16, UPPER)}",
    "google-client-secret": f"GOCSPX-{some(28)}",
    "digitalocean-token": f"dop_v1_{some(64, HEX)}",
    "vault-token": f"hvs.{some(90)}",
    "github-token": f"ghp_{some(36)}",
    "github-fine-grained-token": f"github_pat_{some(22)}_{some(59)}",
    "gitlab-token": f"glpat-{some(20)}",
    "bitbucket-token": f"ATBB{some(32)}",
    "slack-token": f"xoxb-{some(12, string.digits)}-{some(12, string.digits)}-{some(24)}",
    "discord-bot-token": f"M{base64.b64encode(b'234567890123456789').decode()[1:]}.{some(6)}.{some(38)}",
    "telegram-bot-token": f"{some(10, '123456789')}:AA{some(33)}",
    "stripe-secret-key": f"sk_live_{some(24)}",
    "sendgrid-api-key": f"SG.{some(22)}.{some(43)}",
    "mailgun-api-key": f"key-{some(32, HEX)}",
    "twilio-api-key": f"SK{some(32, HEX)}",
    "npm-token": f"npm_{some(36)}",
    "pypi-token": f"pypi-AgEIcHlwaS5vcmc{some(90)}",
    "docker-token": f"dckr_pat_{some(27)}",
    "crates-token": f"cio{some(32)}",
    "jwt": f"eyJ{some(33)}.eyJ{some(60)}.{some(43)}",
}
IN_CONTEXT: dict[str, tuple[str, str]] = {
    "private-key": (KEY.format("RSA "), KEY.format("RSA ")),
    "url-password": ("postgres://app:{}@db.internal:5432/main", some(14)),
    "basic-authorization": ("Authorization: Basic {}", base64.b64encode(b"deploy:hunter2hunter").decode()),
    "bearer-authorization": ("Authorization: Bearer {}", some(40)),
    "assigned-password": ("DB_PASSWORD={}", "Tr0ub4dor&3x"),
    "assigned-token": ('"api_key": "{}"', some(40, HEX)),
    "aws-secret-access-key": ("aws_secret_access_key = {}", some(40)),
    "azure-storage-key": ("AccountName=a;AccountKey={}", some(86) + "=="),
    "flag-token": ("deploy --access-token {}", some(40)),
    "curl-user": ("curl -u deploy:{} https://x.example", "s3cr3tPassw0rd"),
}


def scanner(**options: Any) -> Secrets:
    return Secrets(SecretsConfig(**options))


def rules_in(text: str, **options: Any) -> set[str]:
    return {match.rule for match in scanner(**options).find(text)}


ENGINES = ["re", pytest.param("re2", marks=with_re2)]


class TestContract(ScannerContract):
    plugin = Secrets
    secrets = (
        (TOKENS["anthropic-api-key"], TOKENS["anthropic-api-key"]),
        (TOKENS["aws-access-key-id"], TOKENS["aws-access-key-id"]),
        ("postgres://app:kX93hFq0Lz@db/main", "kX93hFq0Lz"),
    )


class TestContractWithRe2(TestContract):
    pytestmark = with_re2
    options: ClassVar[Mapping[str, Any]] = {"engine": "re2"}


class TestContractWithPython(TestContract):
    options: ClassVar[Mapping[str, Any]] = {"engine": "re"}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("rule", TOKENS)
def test_a_token_is_found_by_its_form(rule: str, engine: str) -> None:
    token = TOKENS[rule]
    for text in (
        token,
        f"use {token}, please",
        f'{{"k":"a\\n{token}"}}',
        f"https://x/?k%3D{token}",
        f"({token})",
        f"é{token}é",
    ):
        [match] = scanner(engine=engine).find(text)
        assert (match.rule, text[match.start : match.end]) == (rule, token)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("rule", IN_CONTEXT)
def test_a_secret_is_found_by_what_stands_around_it(rule: str, engine: str) -> None:
    form, secret = IN_CONTEXT[rule]
    text = f"é {form.format(secret)} and so on"
    [match] = scanner(engine=engine).find(text)
    assert (match.rule, text[match.start : match.end]) == (rule, secret)


@pytest.mark.parametrize("rule", TOKENS)
def test_a_token_inside_of_a_longer_word_is_none(rule: str) -> None:
    assert rule not in rules_in(f"xx{TOKENS[rule]}")


@pytest.mark.parametrize(
    "text",
    [
        "AKIAIOSFODNN7EXAMPLE",
        "aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        "sk_test_4eC39HqLyjWDarjtT1zdp7dc",
        "api_key = 'your-api-key-goes-here-1234'",
        "OPENAI_API_KEY=sk-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
        "postgres://user:password@localhost/db",
        "postgres://user:${DB_PASSWORD}@localhost/db",
        "password = request.form['password']",
        "password = getpass.getpass()",
        "token = base64.urlsafe_b64encode(digest)",
        "nextPageToken: PuqQ8qBykrnh0jYkO0yD39OdZJ4jSuAU",
        "-----BEGIN PRIVATE KEY----- is how such a file begins",
        "The password is required, the token expires in 3600 seconds.",
        "commit 00033e7d4aee51a7c0a5ba2b1e0a0b9ee906c541",
        "integrity sha512-Z6T0zKkQpZ0cA8aHqL1FzQmR3bUe9s5sVbVnWg2F1xk7J8yYwQ0mTg==",
        "id: 3f2504e0-4f89-41d3-9a0c-0305e82c3301",
        "http://localhost:8080/path@2x.png",
    ],
)
def test_examples_and_code_are_no_secrets(text: str) -> None:
    assert rules_in(text) == set()


def test_every_rule_has_a_class_and_an_own_name() -> None:
    rules = own_rules()
    assert len(rules) == len({rule.id for rule in rules}) > 120
    assert {rule.kind for rule in rules} == {
        *("ai", "cloud", "vcs", "saas", "chat", "payment", "packages", "tokens", "keys", "passwords", "encoded")
    }


@pytest.mark.parametrize("rule", own_rules(), ids=lambda rule: rule.id)
def test_a_rule_that_is_no_search_begins_with_one_of_its_keywords(rule: Any) -> None:
    if rule.anywhere:
        return
    for name, token in {**TOKENS, **{name: form.format(s) for name, (form, s) in IN_CONTEXT.items()}}.items():
        data = token.encode()
        for found in rule.python().finditer(data):
            start = found.start() + (2 if data[found.start() : found.start() + 1] == b"\\" else 0)
            assert any(data.lower().startswith(word, start) for word in rule.keywords), name


# The two engines


PIECES = [*TOKENS.values(), *(form.format(secret) for form, secret in IN_CONTEXT.values()), "password: ", "token=", "é"]
WORDS = [
    "\n",
    " ",
    '"',
    "\\n",
    "-",
    "_",
    "%3D",
    ":",
    "x",
    "=",
    "\u200b",
    "\U0001f600",
    "key",
    "sk-",
    "AKIA",
    "://",
    "@",
    "-----",
]


@with_re2
@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(PIECES) | st.sampled_from(WORDS) | st.text(max_size=8), max_size=12))
def test_both_engines_find_the_same(pieces: list[str]) -> None:
    text = "".join(pieces)
    assert RE.find(text) == RE2.find(text)  # type: ignore[union-attr]


RE = scanner(engine="re")
RE2 = scanner(engine="re2") if importlib.util.find_spec("re2") else None


@with_re2
@with_gitleaks
@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from(PIECES) | st.sampled_from(WORDS) | st.text(max_size=8), max_size=12))
def test_both_engines_find_the_same_by_a_gitleaks_file(pieces: list[str]) -> None:
    text = "".join(pieces)
    assert GITLEAKS_RE.find(text) == GITLEAKS_RE2.find(text)  # type: ignore[union-attr]


GITLEAKS_RE = scanner(engine="re", builtin=False, rules=(GITLEAKS,)) if GITLEAKS.exists() else None
GITLEAKS_RE2 = scanner(engine="re2", builtin=False, rules=(GITLEAKS,)) if GITLEAKS_RE and RE2 else None


@with_re2
def test_more_keywords_than_fit_into_one_automaton_are_looked_for_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    compile_one = importlib.import_module("re2").compile
    refused: list[bytes] = []

    def full(pattern: bytes, options: Any) -> Any:
        if b"|glpat" in pattern and b"|sk" in pattern:  # that of all keywords
            refused.append(pattern)
            raise importlib.import_module("re2").error("pattern too large")
        return compile_one(pattern, options)

    monkeypatch.setattr("re2.compile", full)
    small = scanner(engine="re2")
    assert len(refused) == 1
    for token in TOKENS.values():
        assert small.find(f"é {token}") == RE.find(f"é {token}") != []


@with_re2
def test_an_automaton_that_is_short_of_memory_hides_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("routerpool_secrets.engine.MEMORY", 1 << 20)
    small = scanner(engine="re2")
    text = " ".join(f"{token} = {name}-api-secret: 'é'" for name, token in TOKENS.items())
    assert small.find(text) == RE.find(text)
    assert len(RE.find(text)) >= len(TOKENS)


@with_re2
@pytest.mark.parametrize("text", ["api_org_org_", "ghghp_ghp_", "sk-sk-ant-sk-or-", "eaaaeaaa", "dp.pt.st.sl.sl."])
def test_keywords_that_overlap_are_all_seen(text: str) -> None:
    engine = RE2._engine  # type: ignore[union-attr]
    data = text.encode()
    words = {word for numbers in engine._standing.values() for _, word in numbers}
    seen = set()
    for hit in engine._words.finditer(data):
        seen |= {(hit.start() + at, w) for at, w in engine._standing[hit[0]] if data.startswith(w, hit.start() + at)}
    assert seen == {(at, word) for at in range(len(data)) for word in words if data.startswith(word, at)} != set()


@with_re2
def test_a_rule_whose_keyword_is_everywhere_is_found_once_among_them() -> None:
    text = "test_ " * 500 + TOKENS["github-token"] + " ghp_" * 500
    assert RE2.find(text) == RE.find(text)  # type: ignore[union-attr]
    assert [match.rule for match in RE.find(text)] == ["github-token"]


def test_the_python_engine_needs_no_google_re2(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("routerpool_secrets.engine.find_spec", lambda name: None)
    made = scanner()
    reports = list(made.check(None))  # type: ignore[arg-type]  # it looks at nothing
    assert made._engine.name == "re"
    assert "pip install" in reports[1].cure
    assert made.find(TOKENS["jwt"])


def test_asking_for_an_engine_that_is_not_there_says_the_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "re2", None)
    with pytest.raises(ConfigError, match=r"pip install 'routerpool-secrets\[re2\]'"):
        make_router({"plugins": {"secrets": {"engine": "re2"}}}, plugins={"secrets": Secrets})


# Whole requests


def test_a_secret_in_a_tool_result_keeps_the_request_at_home() -> None:
    async def whole() -> Any:
        config = {"plugins": {"secrets": {}, "p": {"base_url": "http://127.0.0.1:1/v1", "models": ["m"]}}}
        async with make_router(config, plugins={"secrets": Secrets, "p": OpenAIProvider}) as router:
            result = {"role": "tool", "tool_call_id": "c", "content": f"TOKEN={TOKENS['github-token']}"}
            return await router.explain({"messages": [{"role": "user", "content": "look"}, result]})

    told = json.dumps(asyncio.run(whole()))
    assert '"privacy": "secret"' in told
    assert TOKENS["github-token"] not in told


def test_a_random_text_is_judged_by_the_key_it_stands_under() -> None:
    asked = parse_chat(
        {
            "messages": [{"role": "user", "content": "x"}],
            "metadata": {"db_password": "kX93hFq0Lz", "note": "kX93hFq0Lz"},
        },
        request_id="r",
    )
    made = scanner()
    features = asyncio.run(made.classify(asked, Features()))
    assert features is not None
    assert features.privacy is Privacy.SECRET
    assert [made.matches_of(p.text, p.key) for p in parts_of(asked) if p.key == "note" and p.text != "note"] == [()]


def test_hidden_characters_wide_letters_and_base64_hide_nothing() -> None:
    token = TOKENS["groq-api-key"]
    hidden = token[:9] + "\u200b" + token[9:]
    wide = "".join(chr(ord(sign) + 0xFEE0) for sign in token)
    for text in (f"é {hidden} x", f"é {wide} x"):
        [match] = scanner().find(text)
        assert text[match.start : match.end] == text[2:-2]
    assert rules_in(base64.b64encode(f"key {token}".encode()).decode()) == {"encoded-secret"}


# Nothing has an end beyond which it is not seen


def wrapped(text: str, width: int = 64, end: str = "\n") -> str:
    return end.join(text[at : at + width] for at in range(0, len(text), width))


def packed(text: str, pack: Callable[[bytes], bytes]) -> str:
    return base64.b64encode(pack(text.encode())).decode()


def encoded(text: str, codec: str = "utf-8") -> str:
    return base64.b64encode(text.encode(codec)).decode()


LETTER = "Dear Sir, here are some settings for the new machine that I promised; be careful with them. " * 2
LONG: dict[str, tuple[str, str]] = {
    "private-key": ("{}", f"-----BEGIN RSA PRIVATE KEY-----\n{wrapped(some(40_000))}\n-----END RSA PRIVATE KEY-----"),
    "putty-private-key": (
        "{}",
        f"PuTTY-User-Key-File-3: ssh-rsa\nPrivate-Lines: 500\n{wrapped(some(40_000))}\nPrivate-MAC: {some(64, HEX)}",
    ),
    "bearer-authorization": ("Authorization: Bearer {}", some(5000)),
    "url-password": ("postgres://app:{}@db.internal/main", some(300)),
    "assigned-password": ("password={}", some(3000)),
    "assigned-token": ("client_secret: {}", some(3000)),
    "anthropic-api-key": ("{}", f"sk-ant-api03-{some(500)}"),
    "jwt": ("{}", f"eyJ{some(3000)}.eyJ{some(60)}.{some(43)}"),
}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("rule", LONG)
def test_a_secret_of_any_length_is_found_to_its_end(rule: str, engine: str) -> None:
    form, secret = LONG[rule]
    text = f"é {form.format(secret)} and so on"
    found = [text[match.start : match.end] for match in scanner(engine=engine).find(text) if match.rule == rule]
    assert found == [secret]


def test_a_key_whose_end_is_cut_off_is_found_as_far_as_it_goes() -> None:
    text = LONG["private-key"][1][:-40]
    assert [(match.start, match.end) for match in scanner().find(text)] == [(0, len(text))]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    "text",
    [
        wrapped(encoded(f"{LETTER}the key is {TOKENS['groq-api-key']}."), 76),
        wrapped(encoded(f"{LETTER}the key is {TOKENS['groq-api-key']}."), 50),
        wrapped(encoded(f"{LETTER}the key is {TOKENS['groq-api-key']}."), 64, "\\n"),
        wrapped(encoded(f"{LETTER}the key is {TOKENS['groq-api-key']}."), 60, "\n  > "),
        "\n".join([encoded(LETTER), encoded(f"the key is {TOKENS['groq-api-key']}"), encoded(LETTER)]),
        encoded(encoded(f"key {TOKENS['groq-api-key']}")),
        encoded(encoded(encoded(f"key {TOKENS['groq-api-key']}"))),
        wrapped(encoded(wrapped(encoded(f"{LETTER} {TOKENS['groq-api-key']}")))),
        *(encoded(f"key is {TOKENS['groq-api-key']}", codec) for codec in ("utf-16-le", "utf-16-be", "utf-16")),
        encoded(f"der schlüssel für die sache ist der key {TOKENS['groq-api-key']} ü"),
        packed(f"the key is {TOKENS['groq-api-key']}", gzip.compress),
        encoded(packed(f"the key is {TOKENS['groq-api-key']}", gzip.compress)),
        packed(f"the key is {TOKENS['groq-api-key']}, and here it is cut", lambda data: gzip.compress(data)[:-12]),
    ],
    ids=range(15),
)
def test_base64_in_lines_over_base64_or_of_utf_16_hides_nothing(text: str, engine: str) -> None:
    [match] = scanner(engine=engine).find(f"see: {text}")
    assert match.rule in ("encoded-secret", "packed-secret")


def test_what_comes_out_of_gzip_is_looked_at_for_base64_and_not_for_more_gzip() -> None:
    """Each gzip in another one would cost up to 32 times as much: a request of some kilobytes, minutes."""
    secret = f"the key is {TOKENS['groq-api-key']}, and so on"
    assert [*scanner().find(packed(f"see {encoded(secret)}", gzip.compress))]
    for inner in (packed(secret, gzip.compress), encoded(packed(secret, gzip.compress))):
        assert [*scanner().find(packed(f"see {inner}", gzip.compress))] == []


def test_what_is_packed_and_broken_or_without_a_secret_is_nothing() -> None:
    harmless = packed(LETTER * 40, gzip.compress)
    assert list(scanner().find(f"see: {harmless} and H4sI{'A' * 400}")) == []


@pytest.mark.parametrize("sign", "\u00ad\u17b4\u180b\u200b\u2060\u2800\u3164\U000e0001\U000e0100\U000e01ef")
def test_what_nobody_sees_hides_nothing(sign: str) -> None:
    token = TOKENS["groq-api-key"]
    hidden = f"{token[:9]}{sign}{token[9:]}"
    [match] = scanner().find(f"a {hidden} b")
    assert (match.rule, match.start, match.end) == ("groq-api-key", 2, 2 + len(hidden))


def test_letters_that_only_models_read_are_read() -> None:
    token = TOKENS["groq-api-key"]
    text = "a picture" + "".join(chr(0xE0000 + ord(sign)) for sign in token)
    assert [(match.rule, match.start) for match in scanner().find(text)] == [("groq-api-key", 9)]


PASSWORD = "Tr0ub4dor&3x"
COMMON: dict[str, str] = {
    "My API key:\n{}": some(40),
    "API key\n\n{}\n": some(40),
    "Here is the token:\n```\n{}\n```": some(40),
    "The password is:\n{}\nthanks": PASSWORD,
    "Password\n{}": PASSWORD,
    '{{"text": "password:\\n{}\\n"}}': PASSWORD,
    "machine api.test\n  login joe\n  password {}\n": "hunterhunter",
    "default login joe password {}": "hunterhunter",
    "<db><password>{}</password></db>": PASSWORD.replace("&", "&amp;"),
    '<wsse:Password Type="x">{}</wsse:Password>': PASSWORD,
    "<password><![CDATA[{}]]></password>": PASSWORD,
    '<add key="DbPassword" value="{}"/>': PASSWORD,
    "<apiKey>\n  {}\n</apiKey>": some(32),
    "CREATE USER 'a'@'%' IDENTIFIED BY '{}';": "hunterx",
    "ALTER USER a IDENTIFIED WITH mysql_native_password BY '{}'": PASSWORD,
    "CREATE ROLE a LOGIN PASSWORD '{}';": PASSWORD,
    "SET PASSWORD FOR a = PASSWORD('{}')": PASSWORD,
    "root:{}:19000:0": f"$6${some(8)}${some(86)}",
    "hash {}": f"$2b$12${some(53)}",
    "md5 {}": f"$1${some(8)}${some(22)}",
    "yescrypt {}": f"$y$j9T${some(22)}${some(43)}",
    "argon {}": f"$argon2id$v=19$m=65536,t=3,p=4${some(22)}${some(43)}",
    "django {}": f"pbkdf2_sha256$600000${some(22)}${some(43)}=",
    "werkzeug {}": f"scrypt:32768:8:1${some(16)}${some(128, HEX)}",
    "userPassword: {}": f"{{SSHA}}{some(32)}",
    "postgres {}": f"SCRAM-SHA-256$4096:{some(24)}${some(43)}=:{some(43)}=",
    "my bot {} works": f"{base64.b64encode(b'23456789012345678').decode().rstrip('=')}.{some(6)}.{some(38)}",
}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("form", COMMON)
def test_a_secret_is_found_in_a_form_that_is_common(form: str, engine: str) -> None:
    secret = COMMON[form]
    text = form.format(secret)
    assert [text[match.start : match.end] for match in scanner(engine=engine).find(text)] == [secret]


@pytest.mark.parametrize(
    "text",
    [
        "owner/model_with_EOT_token\nother/pythia-1.4B-chat-v0.2",
        "if not token:\n    raise_for_missing_value2(x)",
        "password:\n  valueFrom:\n    secretKeyRef: db",
        "Password\n--------\n\nThe password has 8 characters.",
        "<password>String</password>",
        "std::vector<token> tokens2(a1b2c3d4e5f6g7h8i9)",
        "machine learning and password managers",
        "echo $1$2 $5$6",
        "the login name and password are asked for",
    ],
)
def test_what_only_looks_like_one_of_these_forms_is_no_secret(text: str) -> None:
    assert rules_in(text) == set()


UNENDING = [
    *("eyJ-", "eyJaaaaaaaa.", "-----BEGIN PRIVATE KEY-----", "PuTTY-User-Key-File-2: ", "://a:bbb"),
    *("PuTTY-User-Key-File-2: Private-Lines: abcdefgh\n", "<password ", "password>", "token:\n", "token\n"),
    *("QUJDREVGR0hJSktMTU5PUFFSU1RVVldY\n", "QUJDREVGR0hJSktMTU5PUFFSU1RVVldY\\n", "QUJDREVGR0hJSktMTU5P"),
    *("bearer aaaaaaaaaaaaaaaa ", "machine a login b ", "identified by '", "PASSWORD('aaaa", "$5$a$", "{SHA}"),
    *("pbkdf2_sha1$1$", "a\U000e0041", "MTk4NjIyNDgzNDcxOTI1MjQ4."),
]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("unit", UNENDING)
def test_what_begins_again_and_again_and_never_ends_costs_what_it_weighs(unit: str, engine: str) -> None:
    made = scanner(engine=engine)

    def cost(size: int) -> float:
        text = unit * (size // len(unit))
        started = time.thread_time()
        made.find(text)
        return time.thread_time() - started

    small = min(cost(1 << 14) for _ in range(3))
    assert min(cost(1 << 17) for _ in range(3)) <= 24 * max(small, 1e-4)


# What the user says


def test_values_may_be_allowed_rules_left_out_and_classes_given_an_action() -> None:
    token = TOKENS["github-token"]
    assert rules_in(token, allow=(f"^{token}$",)) == set()
    assert rules_in(token, without=("github-token",)) == set()
    assert rules_in(token, without=("vcs",)) == set()
    assert scanner(actions={"vcs": "block"}).action_of("github-token") == "block"


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"actions": {"no-such": "block"}}, "no rule and no class"),
        ({"allow": ["("]}, "cannot be read"),
        ({"rules": ["/nowhere/x.toml"]}, "cannot be read"),
        ({"builtin": False}, "no rule is left"),
    ],
)
def test_a_wrong_section_is_told_at_the_start(section: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_router({"plugins": {"secrets": section}}, plugins={"secrets": Secrets})


FILE = r"""
[allowlist]
regexes = ['''allowed-everywhere''']

[[rules]]
id = "acme"
regex = '''(?i)acme[_-](?-i:KEY)=([a-z0-9]{8,20})(?:\z|[\s;])'''
entropy = 2.0
keywords = ["acme"]
[[rules.allowlists]]
regexTarget = "line"
regexes = ['''# nosec''']
[[rules.allowlists]]
stopwords = ["sample"]
[[rules.allowlists]]
condition = "AND"
paths = ['''x''']
regexes = ['''[a-z]''']

[[rules]]
id = "only-a-path"
path = '''\.p12$'''
"""


@pytest.mark.parametrize("engine", ENGINES)
def test_a_users_gitleaks_file_is_loaded_as_it_is(tmp_path: Path, engine: str) -> None:
    path = tmp_path / "gitleaks.toml"
    path.write_text(FILE)
    made = scanner(builtin=False, rules=(path,), engine=engine)
    text = "ACME_KEY=q1w2e3r4t5"

    [match] = made.find(text)

    assert text[match.start : match.end] == "q1w2e3r4t5"
    for allowed in (f"{text} # nosec", "acme_KEY=sample1q2w3e", "acme_KEY=aaaaaaaaaa", "acme_key=q1w2e3r4t5"):
        assert made.find(allowed) == []


def test_a_gitleaks_file_that_cannot_be_read_names_the_rule(tmp_path: Path) -> None:
    path = tmp_path / "broken.toml"
    path.write_text("[[rules]]\nid = 'bad'\nregex = '''(a'''\n")
    with pytest.raises(ConfigError, match=r"broken.toml: the rule 'bad' cannot be read"):
        make_router({"plugins": {"secrets": {"rules": [str(path)]}}}, plugins={"secrets": Secrets})


@with_gitleaks
def test_every_rule_of_gitleaks_own_file_can_be_loaded() -> None:
    rules = load(GITLEAKS)
    assert len(rules) == 221
    assert {rule.kind for rule in rules} == {"gitleaks"}


def test_entropy_is_shannons() -> None:
    assert [entropy_of(value) for value in (b"", b"aaaa", b"ab", b"abcd")] == [0.0, 0.0, 1.0, 2.0]


def test_two_generations_with_the_same_rules_share_what_is_compiled() -> None:
    one, two, other = Secrets(), Secrets(), Secrets(SecretsConfig(without=("jwt",)))
    assert one._engine is two._engine
    assert one._engine is not other._engine
