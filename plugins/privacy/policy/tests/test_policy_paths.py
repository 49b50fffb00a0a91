"""Patterns of paths, held against what tools are told to do."""

from __future__ import annotations

import time

import pytest
from routerpool_policy.paths import PathPatterns

CLIENTS = "~/clients/**"


@pytest.mark.parametrize(
    "text",
    [
        "~/clients/acme/notes.txt",
        "~/clients",
        "/home/bob/clients/notes.txt",
        "/Users/Bob/Clients/notes.txt",
        "/root/clients/x",
        "C:\\Users\\bob\\clients\\x",
        "/mnt/c/users/bob/clients/x",
        "$HOME/clients/x",
        "${HOME}/clients/x",
        "%USERPROFILE%\\clients\\x",
        "~bob/clients/x",
        "cat ~/clients/x | grep -i total",
        "python -c \"open('/home/bob/clients/x').read()\"",
        "tool --file=~/clients/x",
        "scp h:/home/bob/clients/x .",
        "file:///home/bob/clients/x",
        "~/other/../clients/x",
        "/home/bob//./clients/x",
        "look at ~/clients/x.",
        "~/clients/x.txt:12:4",
    ],
)
def test_a_folder_in_a_home_is_found_however_it_is_written(text: str) -> None:
    assert PathPatterns([CLIENTS]).found_in(text)


@pytest.mark.parametrize(
    "text",
    [
        "~/clientsx/x",
        "/var/clients/x",
        "clients/x",
        "our clients are happy",
        "/home/a/b/clients/x",
        "~/clients/../x",
        "",
    ],
)
def test_what_lies_elsewhere_is_not_found(text: str) -> None:
    assert not PathPatterns([CLIENTS]).found_in(text)


@pytest.mark.parametrize(
    ("pattern", "text", "found"),
    [
        ("*.pem", "server.pem", True),
        ("*.pem", "/etc/ssl/SERVER.PEM", True),
        ("*.pem", "server.pem2", False),
        (".env", "app/.env", True),
        (".env", "app/.envrc", False),
        ("secrets/**", "/srv/secrets/x", True),
        ("secrets/**", "/srv/xsecrets/x", False),
        ("/etc/**", "/etc/passwd", True),
        ("/etc/**", "/srv/etc/passwd", False),
        ("/srv/*/keys", "/srv/a/keys/b", True),
        ("/srv/*/keys", "/srv/a/b/keys", False),
        ("/srv/**/keys", "/srv/a/b/keys", True),
        ("/srv/**/keys", "/srv/keys", True),
        ("~/my clients/**", "/home/bob/my clients/x", True),
        ("id_[rd]sa", "~/.ssh/id_rsa", True),
        ("id_?sa", "~/.ssh/id_ecdsa", False),
        ("D:\\work\\**", "d:/work/x", True),
        ("**", "anything", True),
    ],
)
def test_a_pattern_covers_what_it_names_and_what_lies_below(pattern: str, text: str, found: bool) -> None:
    assert PathPatterns([pattern]).found_in(text) is found


def test_our_own_home_is_a_home_wherever_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/var/lib/service")

    assert PathPatterns([CLIENTS]).found_in("/var/lib/service/clients/x")
    assert PathPatterns(["/var/lib/service/clients"]).found_in("~/clients/x")


@pytest.mark.parametrize("grown", ["a", "/a", "x.pem ", "clients/", "~/", "*", "/**/", "a:", "\\"])
def test_time_grows_with_the_text_and_no_faster(grown: str) -> None:
    patterns = PathPatterns([CLIENTS, "*.pem", "**/a/**/a/**/b", "*a*a*a*b*.pem"])

    def seconds(size: int) -> float:
        text = grown * (size // len(grown)) + " z.pem"
        best = 9.0
        for _ in range(5):
            started = time.perf_counter()
            patterns.found_in(text)
            best = min(best, time.perf_counter() - started)
        return best

    ratios = []
    for _ in range(4):
        ratios.append(seconds(80_000) / max(seconds(40_000), 1e-5))
        if ratios[-1] <= 2.6:
            return
    pytest.fail(f"doubling the text took {ratios} times as long")
