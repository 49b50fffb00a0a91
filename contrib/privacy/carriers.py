"""Texts that secrets are found in: what people ask a model, and what they and their tools paste into it.

A carrier is a snippet (a file, a command, a log, an answer of an API) inside a wrapping (a question in some language, a
tool's result, a diff, a terminal). The secret is followed through all of it by the marks around it.
"""

from __future__ import annotations

import html
import json
import random
import re
from collections.abc import Callable, Iterator

from attrs import field, frozen
from formats import BEGIN, CLOSE, END, MARKS, OPEN, Secret
from material import code, env_lines, logs, pairs, stamp
from words import PROSE, host, noun, prose, user

__all__ = ["SNIPPETS", "WRAPPINGS", "Case", "cases", "placed"]

Snippet = Callable[[random.Random, Secret], str]
Wrap = Callable[[random.Random, str], str]


@frozen
class Case:
    """A text with one secret in it, and how the text was made.

    `span` is where the secret stands, `zone` where the whole value does that it is part of.
    """

    secret: Secret = field(repr=False)
    text: str = field(repr=False)
    span: tuple[int, int]
    zone: tuple[int, int]
    snippet: str
    wrapping: str


def placed(marked: str) -> tuple[str, tuple[int, int], tuple[int, int]]:
    """The text without marks, where the secret stands in it, and where the whole value does."""
    begin, start, end, stop = (marked.index(mark) for mark in (BEGIN, OPEN, CLOSE, END))
    return marked.translate(MARKS), (start - 1, end - 2), (begin, stop - 3)


def _around(rng: random.Random, lines: list[str], text: str) -> str:
    at = rng.randrange(len(lines) + 1)
    return "\n".join([*lines[:at], text, *lines[at:]])


def _camel(name: str) -> str:
    first, *rest = name.lower().split("_")
    return first + "".join(part.title() for part in rest)


# Settings: the name stands beside the value, so that every kind can be told.
SETTINGS: dict[str, Snippet] = {
    "env file": lambda rng, s: _around(rng, env_lines(rng, 8), f"{s.name}={s.marked}"),
    "env file, quoted": lambda rng, s: _around(rng, env_lines(rng, 5), f'{s.name}="{s.marked}"'),
    "shell export": lambda rng, s: f"export {s.name}={s.marked}\n./{noun(rng)}.sh --verbose",
    "command prefix": lambda rng, s: f"{s.name}='{s.marked}' python -m {noun(rng)} --port 8080",
    "yaml": lambda rng, s: _around(rng, [f"{n}: {v}" for n, v in pairs(rng, 6)], f"{s.name.lower()}: {s.marked}"),
    "yaml, nested": lambda rng, s: f'services:\n  {noun(rng)}:\n    environment:\n      {s.name}: "{s.marked}"\n',
    "compose list": lambda _rng, s: (
        f"    environment:\n      - LOG_LEVEL=info\n      - {s.name}={s.marked}\n    ports: [80]"
    ),
    "json": lambda rng, s: json.dumps(dict(pairs(rng, 5)) | {_camel(s.name): s.marked}, indent=2, ensure_ascii=False),
    "json, one line": lambda rng, s: json.dumps({s.name.lower(): s.marked} | dict(pairs(rng, 3)), ensure_ascii=False),
    "toml": lambda rng, s: f'[{noun(rng)}]\n{s.name.lower()} = "{s.marked}"\nretries = 3',
    "ini": lambda rng, s: _around(rng, [f"{n} = {v}" for n, v in pairs(rng, 4)], f"{s.name.lower()} = {s.marked}"),
    "properties": lambda rng, s: (
        f"{noun(rng)}.{s.name.lower().replace('_', '.')}={s.marked}\nspring.profiles.active=prod"
    ),
    "python": lambda rng, s: "\n".join([*code(rng, 1), f'{s.name} = "{s.marked}"', "", *code(rng, 1)]),
    "python argument": lambda rng, s: (
        f'client = Client(\n    base_url="https://{host(rng)}",\n    {s.name.lower()}="{s.marked}",\n)'
    ),
    "python environ": lambda _rng, s: f'import os\nos.environ["{s.name}"] = "{s.marked}"',
    "javascript": lambda _rng, s: f"const {_camel(s.name)} = '{s.marked}';\nexport default {_camel(s.name)};",
    "javascript object": lambda rng, s: (
        f'module.exports = {{\n  env: "{noun(rng)}",\n  {_camel(s.name)}: "{s.marked}",\n}};'
    ),
    "go": lambda _rng, s: f'const {_camel(s.name)} = "{s.marked}"\n\nfunc main() {{\n\trun({_camel(s.name)})\n}}',
    "java": lambda _rng, s: f'    private static final String {s.name} = "{s.marked}";',
    "csharp": lambda _rng, s: f'        public string {_camel(s.name)} {{ get; set; }} = "{s.marked}";',
    "php": lambda _rng, s: f"<?php\ndefine('{s.name}', '{s.marked}');\n$debug = false;",
    "terraform": lambda _rng, s: f'variable "{s.name.lower()}" {{\n  type    = string\n  default = "{s.marked}"\n}}',
    "dockerfile": lambda _rng, s: f"FROM python:3.12-slim\nENV {s.name}={s.marked}\nCOPY . /app",
    "kubernetes env": lambda _rng, s: f"        env:\n        - name: {s.name}\n          value: {s.marked}\n",
    "workflow": lambda _rng, s: f"      - run: make deploy\n        env:\n          {s.name}: {s.marked}\n",
    "log of settings": lambda rng, s: _around(
        rng, logs(rng, 4), f"{stamp(rng)} DEBUG config loaded: {s.name.lower()}={s.marked}"
    ),
    "prose with name": lambda _rng, s: f"Our {s.name} is {s.marked} and it still answers 401.",
    "prose with colon": lambda _rng, s: f"{s.name.replace('_', ' ').lower()}: {s.marked}",
    "header": lambda rng, s: (
        f"curl -H 'X-{s.name.title().replace('_', '-')}: {s.marked}' https://{host(rng)}/v1/{noun(rng)}"
    ),
    "flag": lambda rng, s: f"./{noun(rng)} --{s.name.lower().replace('_', '-')} {s.marked} --dry-run",
}

# Anywhere: nothing beside the value says what it is.
ANYWHERE: dict[str, Snippet] = {
    "prose": lambda _rng, s: f"I tried it with {s.marked} but nothing happens.",
    "prose, end of sentence": lambda _rng, s: f"Use this one: {s.marked}. It is valid until Friday.",
    "prose, code span": lambda _rng, s: f"They sent me `{s.marked}` by mail, where do I put it?",
    "bearer": lambda rng, s: f'curl https://{host(rng)}/v1/{noun(rng)} -H "Authorization: Bearer {s.marked}"',
    "query": lambda rng, s: f"GET https://{host(rng)}/v2/{noun(rng)}?key={s.marked}&page={rng.randrange(9)}",
    "log line": lambda rng, s: _around(rng, logs(rng, 5), f"{stamp(rng)} ERROR 401 for {s.marked} from {host(rng)}"),
    "list": lambda rng, s: f"- staging: {noun(rng)}\n- production: {s.marked}\n- region: eu",
    "python call": lambda rng, s: f'openai.{noun(rng)}("{s.marked}", retries={rng.randrange(9)})',
    "comment": lambda rng, s: "\n".join([*code(rng, 1), f"# old one was {s.marked}", *code(rng, 1)]),
    "csv": lambda rng, s: f"id,owner,value,active\n17,{user(rng)},{s.marked},true\n18,{user(rng)},,false",
    "table": lambda rng, s: f"| service | value |\n|---|---|\n| {noun(rng)} | {s.marked} |\n| {noun(rng)} | none |",
    "xml": lambda rng, s: f'<add key="{noun(rng)}" value="{s.marked}" />',
    "traceback": lambda rng, s: (
        f"  File \"/srv/{noun(rng)}.py\", line {rng.randrange(900)}, in call\nValueError: bad value '{s.marked}'"
    ),
}

LINES: dict[str, Snippet] = {
    "alone": lambda _rng, s: s.marked,
    "in a script": lambda rng, s: _around(rng, code(rng, 2), s.marked),
    "in an env file": lambda rng, s: _around(rng, env_lines(rng, 6), f"{noun(rng).upper()}_URL={s.marked}"),
    "as a string": lambda rng, s: f'{noun(rng)} = connect("{s.marked}")',
    "in yaml": lambda rng, s: _around(rng, [f"{n}: {v}" for n, v in pairs(rng, 4)], f'{noun(rng)}: "{s.marked}"'),
    "in json": lambda rng, s: json.dumps(dict(pairs(rng, 3)) | {noun(rng): s.marked}, ensure_ascii=False),
    "in a log": lambda rng, s: _around(rng, logs(rng, 5), f"{stamp(rng)} INFO {noun(rng)}: {s.marked}"),
    "in prose": lambda _rng, s: f"I run this: {s.marked}\nand then it stops.",
}

BLOCKS: dict[str, Snippet] = {
    "file": lambda _rng, s: s.marked,
    "heredoc": lambda rng, s: (
        f"cat > /etc/{noun(rng)}/{noun(rng)} <<EOF\n{s.marked}\nEOF\nchmod 600 /etc/{noun(rng)}/*"
    ),
    "json value": lambda rng, s: json.dumps(dict(pairs(rng, 3)) | {noun(rng): s.marked}, indent=2, ensure_ascii=False),
    "yaml block": lambda rng, s: f"{noun(rng)}:\n  content: |\n    " + s.marked.replace("\n", "\n    "),
    "python string": lambda rng, s: f'TEXT = """{s.marked}"""\n' + "\n".join(code(rng, 1)),
}

SNIPPETS: dict[str, dict[str, Snippet]] = {
    "bare": SETTINGS | ANYWHERE,
    "named": SETTINGS,
    "line": LINES,
    "block": BLOCKS,
}
"""By the form of a kind: what its secrets may stand in."""


def _question(language: str) -> Wrap:
    def wrap(rng: random.Random, text: str) -> str:
        fence = rng.choice(["```\n{}\n```", "```yaml\n{}\n```", "{}"])
        return f"{prose(rng, 2, language)}\n\n{fence.format(text)}\n\n{prose(rng, 1, language)}"

    return wrap


def _each_line(line: Callable[[random.Random, int, str], str], before: Callable[[random.Random], str]) -> Wrap:
    def wrap(rng: random.Random, text: str) -> str:
        first = rng.randrange(1, 300)
        return before(rng) + "\n".join(line(rng, first + at, part) for at, part in enumerate(text.split("\n")))

    return wrap


WRAPPINGS: dict[str, Wrap] = {f"question in {language}": _question(language) for language in PROSE} | {
    "plain": lambda _rng, text: text,
    "markdown": lambda rng, text: (
        f"# {noun(rng)}\n\n{prose(rng, 3, 'en')}\n\n## Setup\n\n```\n{text}\n```\n\n- {prose(rng, 1, 'en')}\n"
    ),
    "long prose": lambda rng, text: f"{prose(rng, 12, 'en')}\n\n{text}\n\n{prose(rng, 12, 'en')}",
    "tool result": lambda _rng, text: json.dumps({"stdout": text, "stderr": "", "exit_code": 0}, ensure_ascii=False),
    "tool result, ASCII": lambda rng, text: _ascii(
        json.dumps({"path": f"/srv/{noun(rng)}", "content": text, "lines": 4})
    ),
    "tool arguments": lambda rng, text: json.dumps(
        {"file_path": f"/app/{noun(rng)}.conf", "new_string": text}, ensure_ascii=False
    ),
    "numbered lines": _each_line(lambda _rng, at, part: f"{at:6}\t{part}", lambda _rng: ""),
    "diff": _each_line(
        lambda _rng, _at, part: f"+{part}",
        lambda rng: (
            f"diff --git a/{noun(rng)} b/{noun(rng)}\nindex {rng.getrandbits(28):07x}..0000000\n@@ -1,3 +1,9 @@\n"
        ),
    ),
    "diff, removed": _each_line(
        lambda _rng, _at, part: f"-{part}", lambda _rng: "--- a/settings\n+++ /dev/null\n@@ -1,9 +0,0 @@\n"
    ),
    "quoted mail": _each_line(
        lambda _rng, _at, part: f"> {part}", lambda rng: f"On {stamp(rng)}, {user(rng)} wrote:\n"
    ),
    "search result": _each_line(lambda _rng, at, part: f"src/app/settings.py:{at}:{part}", lambda _rng: ""),
    "terminal": lambda rng, text: (
        f"{user(rng)}@{noun(rng)}:~/src$ cat {noun(rng)}\n{text}\n{user(rng)}@{noun(rng)}:~/src$ "
    ),
    "document tag": lambda rng, text: (
        f'<document index="1">\n<source>{noun(rng)}</source>\n{text}\n</document>\n{prose(rng, 1, "en")}'
    ),
    "web page": lambda rng, text: (
        f"<pre><code>{html.escape(text, quote=False)}</code></pre><p>{prose(rng, 2, 'en')}</p>"
    ),
    "notebook": lambda _rng, text: json.dumps(
        {"cell_type": "code", "execution_count": 3, "source": text.splitlines(keepends=True)}, ensure_ascii=False
    ),
}
"""By name: what a snippet comes wrapped in. Those of several lines put their own sign before each."""


def _ascii(text: str) -> str:
    """JSON with everything beyond ASCII escaped, but for the marks."""
    return re.sub(r"\\ue00([0-3])", lambda match: chr(0xE000 + int(match[1])), text)


def cases(seed: int, made: Iterator[Secret]) -> Iterator[Case]:
    """Each secret in a carrier of its own; snippets and wrappings take turns, so that each meets many of the other."""
    turns: dict[str, int] = {}
    for number, secret in enumerate(made):
        rng = random.Random(f"{seed}/{number}")
        snippets = SNIPPETS[secret.kind.form]
        turn = turns[secret.kind.form] = turns.get(secret.kind.form, rng.randrange(len(snippets))) + 1
        snippet = list(snippets)[turn % len(snippets)]
        wrapping = list(WRAPPINGS)[rng.randrange(len(WRAPPINGS))]
        text, span, zone = placed(WRAPPINGS[wrapping](rng, snippets[snippet](rng, secret)))
        yield Case(secret, text, span, zone, snippet, wrapping)
