"""The pages of the hooks: one for each, made of its spec, of the core's limits and of the plugins that answer it."""

from __future__ import annotations

import inspect
import json
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from manual import MANUAL, Spec
from markdown import anchor, bullets, code, paragraphs, prose, table
from values import VALUES, described, linked

from plugins import Shipped, shipped
from routerpool import hookspecs
from routerpool.engine.record import RECORD_SECONDS
from routerpool.hooks.calling import (
    ACCEPTS,
    CLOSE_SECONDS,
    HOOK_SECONDS,
    OPEN_SECONDS,
    REFUSABLE,
    REFUSALS,
    SLOW_SECONDS,
)
from routerpool.hooks.detection import DETECT_SECONDS

__all__ = ["WAY", "budget", "hook_pages", "limit", "measured"]

ROOT = Path(__file__).resolve().parent.parent.parent
COSTS = json.loads((ROOT / "contrib" / "benchmarks" / "hook_costs.json").read_text())
VALUES_PAGE, PLUGINS_PAGE = "../values.md", "../plugins.md"

WAY = """
each request   classify → veto → score → intercept → begin
each attempt       reserve → mutate → (the provider) → judge → rewrite, or on_failure and the next attempt
the end        on_success, where a provider has answered → record_usage
"""
"""A request's way through the hooks; to explain is to stop behind `score`."""

ABOUT = """
No hook has to be implemented. These pages are made of the specs in
[`routerpool/hookspecs.py`](../../../routerpool/hookspecs.py), which can be read in one sitting; every example is run by
a test. See also the [values](../values.md) that hooks get and answer with, [all plugins](../plugins.md), and the
[tutorial](../authoring.md), which builds whole plugins with their files and tests.

A request's way through the hooks; `explain` stops behind `score`, and an answer of `intercept` goes straight to the
end:
"""


def hook_pages() -> Iterator[tuple[str, str]]:
    """The pages by their names within the folder."""
    yield "README.md", _index()
    names = list(MANUAL)
    for number, name in enumerate(names):
        before = names[number - 1] if number else None
        after = names[number + 1] if number + 1 < len(names) else None
        yield f"{name}.md", _page(MANUAL[name], before, after)


# The index


def _index() -> str:
    rows = [
        (f"[`{name}`]({name}.md)", spec.purpose, *(_sentence(spec.facts[f]) for f in ("When", "Order", "Budget")))
        for name, spec in MANUAL.items()
    ]
    required = ", ".join(f"[`{name}`]({name}.md)" for name in MANUAL if name in REFUSABLE)
    parts = [
        "# Hooks",
        *_plugin(),
        prose(ABOUT),
        code(WAY.strip("\n"), "text"),
        table(("hook", "what it is for", "when", "order", "budget"), rows),
        "## What all hooks share",
        bullets(paragraphs(_shared(required))),
        "## What the budgets mean",
        prose(_budgets()),
    ]
    return "\n\n".join(parts) + "\n"


def _plugin() -> tuple[str, str]:
    """What a plugin is, in the manual's own words."""
    _, words, lines, *_ = inspect.cleandoc(hookspecs.__doc__ or "").split("\n\n")
    return prose(words), code(textwrap.dedent(lines), "toml")


def _shared(required: str) -> str:
    return f"""
**Order**: plugins are called in the order of the YAML file's `plugins:`, those with `@hookimpl(tryfirst=True)` before
and those with `trylast=True` behind the others.

**Time**: an `async def` hook is given up after {HOOK_SECONDS:g} s. Nothing can end a `def` that blocks: one that holds
the loop longer than {SLOW_SECONDS * 1e3:g} ms in one go, a step of an `async def` too, is counted as slow and named in
the log.

**Faults**: a hook that raises, overruns its time or answers with the wrong type is left out of this request, counted,
and named in the log and in `/v1/router/status`, by the kind and place of its error, never by its words. Where the
plugin is required, a fault in {required} refuses the request with `plugin_required` (503).

**Required**: `required: true` in YAML, or a class attribute `required = True`, which `required: false` overrules.
"""


def _budgets() -> str:
    about = COSTS["about"]
    return f"""
A budget is the CPU time of one call of one plugin, for what it answers most often, with a request of 2 KB and 20
candidates. It is an aim and no limit: nobody is cut off for being over it.

The budgets are shares of what a plain request may cost beside the barest aiohttp proxy in the
[benchmark](../../benchmarks/README.md), with all default plugins on. Its parts were measured when the project began:
calling a hook takes 1.5 µs, one pass of a regular expression over 2 KB 7 µs, a row written in a batch 2 to 3 µs, and
for scores 10 µs were set aside. A stream's chunk costs some 28 µs even in the bare proxy; so nothing is called for a
chunk unless a plugin asks for it with `rewrite`.

The figures on the pages are medians of single calls, measured {about["time"]} by
[`hook_costs.py`](../../benchmarks/hook_costs.py) with Python {about["python"]} on {about["cores"]} shared cores, every
request with a text that nobody had seen. A plugin without a figure was not asked in that run, or too seldom.
"""


# A hook's own page


def _page(spec: Spec, before: str | None, after: str | None) -> str:
    parts = [
        f"# {spec.name}",
        _around(before, after),
        prose(spec.purpose),
        prose(spec.text),
        code(spec.signature),
        table(("argument", "type", "what it is"), [_argument(one.name, one.type) for one in spec.arguments]),
        _answer(spec),
        table(("", ""), _facts(spec)),
        "## Example",
        "Run by a test, as it stands here. The method may name any subset of the arguments, in any order.",
        code(spec.example),
        "## Who answers it",
        _answerers(spec.name),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _around(before: str | None, after: str | None) -> str:
    left = [f"← [{before}]({before}.md)"] if before else []
    right = [f"[{after}]({after}.md) →"] if after else []
    return " · ".join([*left, "[all hooks](README.md)", *right])


def _argument(name: str, annotation: str) -> tuple[str, str, str]:
    found = [VALUES[word] for word in re.findall(r"\w+", annotation) if word in VALUES]
    meaning = described(found[0]) if found else ROUTER if annotation == "Router" else ""
    if annotation.startswith("Sequence"):
        meaning = f"Several of these: {meaning}"
    return f"`{name}`", linked(annotation, VALUES_PAGE), meaning


ROUTER = "The router itself: its configuration, catalog, store, HTTP session, and `chat` and `stream` for requests."


def _answer(spec: Spec) -> str:
    if spec.answer.startswith("AsyncIterator"):
        return ""
    if spec.answer == "None":
        return "It answers nothing; what it returns is ignored."
    found = [VALUES[word] for word in dict.fromkeys(re.findall(r"\w+", spec.answer)) if word in VALUES]
    meaning = f": {described(found[0])}" if len(found) == 1 else "."
    return prose(f"It answers {linked(spec.answer, VALUES_PAGE)}{meaning}")


def _facts(spec: Spec) -> list[tuple[str, str]]:
    facts = [(f"**{name}**", _sentence(spec.facts[name])) for name in ("When", "Order", "Budget")]
    facts += [("**Form**", spec.form), ("**Time**", _sentence(limit(spec.name))), ("**A fault**", _fault(spec))]
    refusals = [error.__name__ for error, hooks in REFUSALS.items() if spec.name in hooks]
    facts += [("**Saying no**", NO[name]) for name in refusals]
    return facts


NO = {
    "RequestError": f"[`RequestError`]({VALUES_PAGE}#requesterror) refuses the request with its code; it is no fault.",
    "Unavailable": f"[`Unavailable`]({VALUES_PAGE}#unavailable) goes on to the next candidate; it is no fault.",
}


def _sentence(words: str) -> str:
    return words if words.startswith("`") else words[0].upper() + words[1:]


def limit(hook: str) -> str:
    """How long the hook may take, and what then."""
    slow = f"a `def` has no limit, but is named as slow beyond {SLOW_SECONDS * 1e3:g} ms"
    usual = f"an `async def` is given up after {HOOK_SECONDS:g} s; {slow}"
    special = {
        "lifespan": f"{OPEN_SECONDS:g} s to open and {CLOSE_SECONDS:g} s to close",
        "detect": f"{DETECT_SECONDS:g} s for all plugins together, in threads of their own",
        "reserve": f"{usual}. `__aenter__` may wait as long as the request has time, `__aexit__` {HOOK_SECONDS:g} s",
        "record_usage": f"{usual}. The client waits for {RECORD_SECONDS * 1e3:g} ms of it",
        "rewrite": f"{usual}. Its rewriters have no limit: what they do, they do between two chunks",
    }
    return special.get(hook, "no limit" if hook.startswith("register_") else usual) + "."


def _fault(spec: Spec) -> str:
    told = [f"It {spec.facts['Fault']}"] if "Fault" in spec.facts else []
    if spec.name in REFUSABLE:
        told.insert(0, "It is counted and left out; that of a required plugin refuses the request.")
    elif not told:
        told = ["It is counted and left out, also that of a required plugin: no request is refused here."]
    if spec.name in ACCEPTS:
        told.append(f"An answer of another type than `{ACCEPTS[spec.name].__name__}` is a fault too.")
    return " ".join(told)


def budget(spec: Spec) -> float:
    """The hook's budget in microseconds, for requests such as the measured ones."""
    match = re.match(r"(\d+) (ns|µs|ms|s)( for each character)?", spec.facts["Budget"])
    if match is None:
        raise ValueError(f"{spec.name}: a budget begins with a number and its unit")
    number = int(match[1]) * {"ns": 1e-3, "µs": 1, "ms": 1e3, "s": 1e6}[match[2]]
    return number * (COSTS["about"]["characters"] if match[3] else 1)


def measured(hook: str, plugin: str) -> float | None:
    """Microseconds of one call, where they were measured."""
    costs: dict[str, Any] = COSTS["microseconds"].get(hook, {})
    return costs.get(plugin)


def _answerers(hook: str) -> str:
    found = [plugin for plugin in shipped() if hook in plugin.hooks]
    if not found:
        return "None of the plugins in this repository."
    families: dict[str, list[Shipped]] = {}
    for plugin in found:
        families.setdefault(plugin.family, []).append(plugin)
    return bullets(
        f"{family}: " + ", ".join(_answerer(hook, plugin) for plugin in plugins) for family, plugins in families.items()
    )


def _answerer(hook: str, plugin: Shipped) -> str:
    notes = ["async"] if plugin.hooks[hook] else []
    if (cost := measured(hook, plugin.name)) is not None:
        notes.append(f"{cost:g} µs{', over the budget' if cost > budget(MANUAL[hook]) else ''}")
    return f"[`{plugin.name}`]({PLUGINS_PAGE}{anchor(plugin.name)})" + (f" ({', '.join(notes)})" if notes else "")
