"""What the command line prints: the server's JSON documents as aligned plain text, one function for each."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from routerpool.errors import Problem

__all__ = [
    "checked",
    "explained",
    "models",
    "plugins",
    "printable",
    "profiles",
    "reports",
    "status",
    "table",
    "tried",
    "usage",
    "welcome",
]

_CONTROL: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    """The text without the characters that would steer a terminal: what models and providers say is not trusted."""
    return _CONTROL.sub("", text)


def table(rows: Iterable[Sequence[Any]], head: Sequence[str] = ()) -> Iterator[str]:
    """Aligned lines, the last column ragged; None is shown as nothing."""
    shown = [[printable("" if cell is None else str(cell)).replace("\n", " ") for cell in row] for row in rows]
    if head and shown:
        shown.insert(0, list(head))
    widths = [max(len(row[column]) for row in shown) for column in range(len(shown[0]))] if shown else []
    for row in shown:
        yield "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()


def explained(plan: Mapping[str, Any]) -> Iterator[str]:
    """A plan: what is known of the request, who is asked with named terms, and who is not with the reason."""
    features = plan["features"]
    task = features.get("task")
    difficulty = features.get("difficulty")
    parts = [
        plan["profile"],
        task if task and difficulty is None else f"{task or 'difficulty'} ({difficulty:.2f})" if difficulty else None,
        f"~{features['prompt_tokens']:,} tokens",
        "needs " + ", ".join(features["needs"]) if features.get("needs") else None,
        features["privacy"],
        *(f"{finding['rule']} in {finding['part']}: {finding['redacted']}" for finding in features.get("findings", ())),
    ]
    yield printable(" · ".join(str(part) for part in parts if part))
    ranked, vetoes = plan["ranked"], plan["vetoes"]
    keys = [entry["candidate"] for entry in (*ranked, *vetoes)]
    width = max((len(key) for key in keys), default=0)
    number = max(len(str(len(ranked))), 1)
    for place, entry in enumerate(ranked, 1):
        why = " · ".join(_terms(entry))
        yield printable(f"  {place:>{number}}  {entry['candidate']:<{width}}  {entry['points']:.2f}  {why}".rstrip())
    reasons: dict[str, list[str]] = {}
    for veto in vetoes:
        reasons.setdefault(veto["candidate"], []).append(f"{veto['code']}: {veto['reason']}")
    for candidate, told in reasons.items():
        yield printable(f"  {'–':>{number}}  {candidate:<{width}}  {' · '.join(told)}").replace("\n", " ")
    if not keys:
        yield "  nobody: no provider is configured"


def _terms(entry: Mapping[str, Any]) -> Iterator[str]:
    for name, opinion in entry["strategies"].items():
        terms = ", ".join(f"{term} {value:.2f}" for term, value in opinion["terms"].items())
        yield f"{name} {opinion['points']:.2f} ×{opinion['weight']:g}" + (f" ({terms})" if terms else "")
    if entry.get("local"):
        yield "local"
    cost = entry.get("cost")
    if entry.get("free"):
        yield "free"
    elif cost is not None:
        yield f"about ${cost:.4f}"


def models(document: Mapping[str, Any]) -> Iterator[str]:
    """Every candidate with what is known of it."""
    candidates = document["candidates"]
    rows = [
        (
            entry["candidate"],
            f"{entry['context']:,}" if entry.get("context") else "?",
            entry.get("tier"),
            " ".join(word for word in ("free", "local") if entry.get(word)),
            f"idle: {entry['idle']}" if entry.get("idle") else "",
        )
        for entry in candidates
    ]
    yield from table(rows, ("candidate", "context", "tier", "cost", ""))
    if not rows:
        yield "no candidate: set a provider's key, start Ollama, or name plugins in routerpool.yaml"


def profiles(document: Mapping[str, Any]) -> Iterator[str]:
    """Every profile; the default one is marked."""
    rows = []
    for name, profile in document["profiles"].items():
        weights = ", ".join(f"{strategy} {weight:g}" for strategy, weight in profile["weights"].items())
        order = ", ".join(profile["models"])
        mark = "*" if name == document["default"] else " "
        told = [profile["cost"], profile["tier"], weights and f"weighs {weights}", order and f"in order {order}"]
        rows.append((mark, name, profile["description"], " · ".join(part for part in told if part)))
    yield from table(rows)


def status(document: Mapping[str, Any]) -> Iterator[str]:
    """How things stand: providers, then what plugins tell, then figures."""
    for name in document.get("unprotected", ()):
        yield printable(f"WARNING: the required plugin {name} is switched off: requests go on without it")
    for provider in document["providers"]:
        state = provider["idle"] or provider["silent"] or ("" if provider["enabled"] else "switched off")
        place = "local" if provider["local"] else "remote"
        line = f"{provider['name']}: {place}, {provider['models']} models" + (f", {state}" if state else "")
        yield printable(line)
    for plugin in document["plugins"]:
        told = [f"{name} {_short(value)}" for name, value in plugin.get("status", {}).items()]
        if plugin.get("faults"):
            told.append(f"{plugin['faults']} faults, the last: {plugin['last_fault']}")
        if told:
            yield printable(f"{plugin['name']}: " + " · ".join(told))
    admission = ", ".join(f"{value} {name}" for name, value in document["admission"].items())
    yield f"requests: {admission}"
    yield printable(f"store: {document['store'].get('url', '')}")
    yield from (printable(f"note: {note}") for note in document.get("notes", ()))


def _short(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_short(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_short(item) for item in value) + "]"
    return f"{value:g}" if isinstance(value, float) else str(value)


def plugins(entries: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Installed plugins, whether the configuration names them, and their hooks."""
    rows = [
        (
            entry["name"],
            {True: "on", False: "off", None: "?"}[entry["enabled"]],
            entry["distribution"],
            entry["version"],
            entry["fault"] or ", ".join(entry["hooks"]),
        )
        for entry in entries
    ]
    yield from table(rows, ("plugin", "", "distribution", "version", "hooks"))


def reports(found: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """What doctor found, each with its cure."""
    for report in found:
        yield printable(f"{report['level']:<7}  {report['text']}")
        if report["cure"] and report["level"] != "ok":
            yield printable(f"{'':<7}  → {report['cure']}")


def tried(headers: Mapping[str, str]) -> str:
    """Who answered and over whom, from the router's own headers."""
    provider, model = headers.get("X-Router-Provider"), headers.get("X-Router-Model")
    who = f"{provider}/{model}" if provider else "the router itself"
    attempts = headers.get("X-Router-Attempts", "0")
    over = headers.get("X-Router-Tried", "")
    many = "" if attempts in ("0", "1") else f" · {attempts} attempts"
    return printable(who + many + (f" · tried {over}" if over else ""))


def usage(tokens: Mapping[str, Any] | None) -> str:
    """The tokens of an answer, as far as the provider told."""
    if not tokens:
        return "tokens unknown"
    return f"{tokens.get('prompt_tokens', '?')} tokens in, {tokens.get('completion_tokens', '?')} out"


def welcome(told: Mapping[str, Any]) -> Iterable[str]:
    """What a server says once it answers."""
    yield f"routerpool {told['version']} listens at {told['url']}"
    yield f"  configuration: {told['config'] or 'none, this is what was found here (`routerpool init` writes it down)'}"
    yield from (printable(f"  {note}") for note in told["notes"])
    yield from (printable(f"  warning: {warning}") for warning in told["warnings"])
    for provider in told["providers"]:
        state = provider["silent"] or ("nothing to answer with" if not provider["models"] else "")
        kind = ", local" if provider["local"] else ""
        line = f"not now: {provider['name']}: {state}" if state else f"answers: {provider['name']}"
        yield printable(f"  {line}" + ("" if state else f" ({provider['models']} models{kind})"))
    yield "try it:"
    address = told["url"].replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:")
    key = ' -H "Authorization: Bearer $ROUTERPOOL_API_KEY"' if told["keys"] else ""
    body = '{"model": "auto", "messages": [{"role": "user", "content": "Hello!"}]}'
    yield f"  curl -i {address}/v1/chat/completions -H 'Content-Type: application/json'{key} -d '{body}'"


def checked(told: Mapping[str, Any]) -> Iterable[str]:
    """What is wrong with a configuration, and what it names that leads nowhere."""
    for warning in told["warnings"]:
        yield printable(f"warning: {Problem(**warning).render(told['file'] or 'configuration')}")
    for problem in told["problems"]:
        yield printable(f"{problem['path']}: {problem['message']}")
    if told["problems"]:
        return
    mistakes = f"{len(told['warnings'])} names lead nowhere" if told["warnings"] else "no mistakes"
    many = f"{len(told['plugins'])} plugins, {len(told['providers'])} of them providers"
    yield f"{told['file'] or 'no configuration file, what is found here is used'}: {mistakes}, {many}"
