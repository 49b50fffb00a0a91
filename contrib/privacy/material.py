"""Innocent lines of configuration, code and logs, made up: what stands around a secret, and alone in clean texts."""

from __future__ import annotations

import random
from collections.abc import Callable

from words import host, noun, user, uuid

__all__ = ["code", "env_lines", "logs", "pairs", "stamp"]


def _hex(rng: random.Random, length: int) -> str:
    return f"{rng.getrandbits(4 * length):0{length}x}"


def stamp(rng: random.Random) -> str:
    """A time in a form that logs use."""
    day = f"2026-{rng.randrange(1, 13):02}-{rng.randrange(1, 29):02}"
    time = f"{rng.randrange(24):02}:{rng.randrange(60):02}:{rng.randrange(60):02}"
    return rng.choice(
        [f"{day}T{time}.{rng.randrange(1000):03}Z", f"{day} {time},{rng.randrange(1000):03}", f"[{day} {time}]"]
    )


VALUES: tuple[Callable[[random.Random], str], ...] = (
    lambda rng: str(rng.randrange(1, 90000)),
    lambda rng: rng.choice(["true", "false", "info", "debug", "production", "staging", "utc", "gzip", "eu-central-1"]),
    host,
    noun,
    lambda rng: f"http://{host(rng)}:{rng.randrange(1024, 65000)}/v{rng.randrange(1, 4)}",
    lambda rng: f"/var/lib/{noun(rng)}/{noun(rng)}.db",
    lambda rng: f"{rng.randrange(1, 9)}.{rng.randrange(30)}.{rng.randrange(30)}",
    lambda rng: f"registry.{noun(rng)}.example.com/{noun(rng)}:{_hex(rng, 12)}",
)
ENDS = (
    "host",
    "port",
    "level",
    "region",
    "path",
    "timeout",
    "url",
    "mode",
    "limit",
    "version",
    "workers",
    "size",
    "name",
)


def pairs(rng: random.Random, count: int) -> list[tuple[str, str]]:
    """Names and values of settings that are nobody's secret."""
    return [(f"{noun(rng)}_{rng.choice(ENDS)}", rng.choice(VALUES)(rng)) for _ in range(count)]


def env_lines(rng: random.Random, count: int) -> list[str]:
    """Lines of a `.env` file."""
    return [f"{name.upper()}={value}" for name, value in pairs(rng, count)]


LOGS: tuple[Callable[[random.Random], str], ...] = (
    lambda rng: f"{stamp(rng)} INFO {noun(rng)}.{noun(rng)}: request {uuid(rng)} served in {rng.randrange(900)} ms",
    lambda rng: f"{stamp(rng)} WARN pool {noun(rng)} is at {rng.randrange(100)}% ({rng.randrange(90)} of 90)",
    lambda rng: (
        f'10.0.{rng.randrange(256)}.{rng.randrange(256)} - - "GET /{noun(rng)}/{rng.randrange(9999)}?page=2 '
        f'HTTP/1.1" {rng.choice([200, 304, 404, 500])} {rng.randrange(90000)} "-" "Mozilla/5.0 (X11; Linux x86_64)"'
    ),
    lambda rng: f"{stamp(rng)} {host(rng)} systemd[1]: Started {noun(rng)}.service - {noun(rng)} worker.",
    lambda rng: (
        f'{{"ts":"{stamp(rng)}","level":"info","trace_id":"{_hex(rng, 32)}","span_id":"{_hex(rng, 16)}",'
        f'"msg":"{noun(rng)} {noun(rng)}","user":"{user(rng)}","ms":{rng.randrange(900)}}}'
    ),
    lambda rng: (
        f"{stamp(rng)} DEBUG commit {_hex(rng, 40)} checked out to /srv/{noun(rng)}/releases/{rng.randrange(10**13)}"
    ),
    lambda rng: (
        f"{stamp(rng)} ERROR {noun(rng)}: connection to {host(rng)}:{rng.randrange(1024, 65000)} refused, retrying"
    ),
)


def logs(rng: random.Random, count: int) -> list[str]:
    """Lines of several programs' logs."""
    return [rng.choice(LOGS)(rng) for _ in range(count)]


def _python(rng: random.Random) -> list[str]:
    a, b, c = noun(rng), noun(rng), noun(rng)
    return [
        f"def load_{a}({b}: str, limit: int = {rng.randrange(500)}) -> list[str]:",
        f'    """Read the {a} of {b}."""',
        f"    with open({b}, encoding='utf-8') as file:",
        f"        {c}s = [line.strip() for line in file if line]",
        f"    return {c}s[:limit]",
        "",
    ]


def _javascript(rng: random.Random) -> list[str]:
    a, b = noun(rng), noun(rng)
    return [
        f"export async function fetch{a.title()}({b}, options = {{}}) {{",
        f"  const response = await fetch(`${{BASE}}/{a}/${{{b}}}`, {{ ...options, cache: 'no-store' }});",
        f"  if (!response.ok) throw new Error(`{a} answered ${{response.status}}`);",
        f"  return (await response.json()).{b}s ?? [];",
        "}",
        "",
    ]


def _go(rng: random.Random) -> list[str]:
    a, b = noun(rng), noun(rng)
    return [
        f"func (s *{a.title()}) {b.title()}(ctx context.Context, key string) (*{b.title()}, error) {{",
        f"\tif v, ok := s.cache[key]; ok && v.hash == {rng.randrange(10**6)} {{",
        "\t\treturn v, nil",
        "\t}",
        f'\treturn nil, fmt.Errorf("no {b} for key %q", key)',
        "}",
        "",
    ]


def _sql(rng: random.Random) -> list[str]:
    a, b = noun(rng), noun(rng)
    return [
        f"CREATE TABLE {a} (id bigint PRIMARY KEY, {b}_id uuid NOT NULL, password_hash text, token_count int);",
        f"SELECT {b}_id, count(*) FROM {a} WHERE created > now() - interval '{rng.randrange(90)} days' GROUP BY 1;",
        "",
    ]


def _shell(rng: random.Random) -> list[str]:
    a = noun(rng)
    return [
        "set -euo pipefail",
        f"for file in /srv/{a}/*.tar.gz; do",
        f'  tar -xzf "$file" -C "$TARGET" && echo "unpacked $file ({rng.randrange(99)} MB)"',
        "done",
        "",
    ]


CODE = (_python, _javascript, _go, _sql, _shell)


def code(rng: random.Random, blocks: int) -> list[str]:
    """Lines of code, all of one language."""
    make = rng.choice(CODE)
    return [line for _ in range(blocks) for line in make(rng)]
