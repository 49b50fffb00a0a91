"""The plugins of this repository: the README's list of them, the page that tells all, and that of the providers."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from inspect import iscoroutinefunction
from pathlib import Path

from attrs import frozen
from markdown import anchor, bullets, prose, table
from sections import Shapes

from routerpool.config.sections import PluginEntry
from routerpool.config.structure import keys_of
from routerpool.hooks.calling import HOOKS
from routerpool.hooks.loading import Installed, installed
from routerpool.hookspecs import PROJECT
from routerpool.providers.data import ProviderData, load_data
from routerpool.providers.openai import OpenAIProvider
from routerpool.providers.settings import ProviderConfig

__all__ = ["FAMILIES", "Shipped", "listed", "plugins_page", "providers_page", "shipped"]

ROOT = Path(__file__).resolve().parent.parent.parent
FAMILIES = {
    "providers": ("Providers", "services and local servers that answer"),
    "strategies": ("Strategies", "which candidate is preferred"),
    "resilience": ("Resilience", "what is learned from failures"),
    "privacy": ("Privacy", "what a request contains, and who may see it"),
    "mutators": ("Mutators", "what is changed before a request is sent"),
    "apis": ("APIs", "other wire formats for clients"),
    "operations": ("Operations", "what people look at"),
}
"""The families, by the folders of their plugins: a title, and what they are about."""

EVERY_PROVIDER = "Keys of every provider's section"


@frozen
class Shipped:
    """A plugin of this repository. `hooks` says of each hook that it answers whether it does so by `async def`."""

    name: str
    family: str
    summary: str
    offer: Installed
    plugin: type
    hooks: Mapping[str, bool]


@cache
def shipped() -> tuple[Shipped, ...]:
    """All of them, by family and name. A family without a title, or a plugin that is not installed, is a KeyError."""
    known, found = installed(), []
    folders = sorted(path.parent for path in ROOT.glob("plugins/*/*/pyproject.toml"))
    for folder in sorted(folders, key=lambda folder: list(FAMILIES).index(folder.parent.name)):
        summary = tomllib.loads((folder / "pyproject.toml").read_text())["project"]["description"]
        offer = known[folder.name]
        plugin = offer.load()
        found.append(Shipped(folder.name, folder.parent.name, summary, offer, plugin, _hooks(plugin)))
    return tuple(found)


def _hooks(plugin: type) -> dict[str, bool]:
    marked = ((name, getattr(plugin, name, None)) for name in dir(plugin))
    answers = {  # a method of another name may answer a hook
        how.get("specname") or name: iscoroutinefunction(function)
        for name, function in marked
        if (how := getattr(function, f"{PROJECT}_impl", None)) is not None
    }
    return {name: answers[name] for name in HOOKS if name in answers}


def _by_family() -> Iterator[tuple[str, str, list[Shipped]]]:
    for family, (title, about) in FAMILIES.items():
        if found := [plugin for plugin in shipped() if plugin.family == family]:
            yield title, about, found


def listed() -> str:
    """The README's list, one line a family."""
    page, more = "contrib/docs/plugins.md", {"Providers": " ([keys, free tiers](contrib/docs/providers.md))"}
    return bullets(
        f"[{title}]({page}{anchor(title)}), {about}{more.get(title, '')}: {', '.join(f'`{p.name}`' for p in plugins)}"
        for title, about, plugins in _by_family()
    )


# The page

ABOUT = """
A plugin is switched on by its name in `plugins:`, in the order in which they are to be called; a key of another name
says `use:`. What a key means and may hold comes from the plugin itself; hooks lead to [their pages](hooks/README.md).
A key without a default may be left out unless it is required.

Each is a distribution of its own. `routerpool[default]` installs those that run without a configuration,
`routerpool[providers]` and the like a whole family, `routerpool[all]` all of them.
"""


def plugins_page() -> str:
    """All plugins: what each is for, where it comes from, which hooks it answers, and the keys of its section."""
    shared = Shapes(owner="providers")
    rows = [(f"[`{p.name}`]({anchor(p.name)})", p.family, p.summary, _links(p)) for p in shipped()]
    parts = [
        "# Plugins",
        prose(ABOUT),
        table(("plugin", "family", "what it does", "hooks"), rows),
        "## Keys of every plugin's section",
        shared.table(PluginEntry, use="the key itself"),
        f"## {EVERY_PROVIDER}",
        "Providers that speak OpenAI's format take these; below stands only what one has besides, or otherwise.",
        shared.table(ProviderConfig),
        *shared.pages("###"),
    ]
    for title, about, plugins in _by_family():
        parts += [f"## {title}", f"{about[0].upper()}{about[1:]}."]
        for plugin in plugins:
            parts += _told(plugin, shared)
    return "\n\n".join(part for part in parts if part) + "\n"


def _links(plugin: Shipped) -> str:
    return ", ".join(f"[{hook}](hooks/{hook}.md){' (async)' if how else ''}" for hook, how in plugin.hooks.items())


def _told(plugin: Shipped, shared: Shapes) -> Iterator[str]:
    yield f"### {plugin.name}"
    yield f"{plugin.summary}."
    words = [f"`{plugin.offer.distribution}` {plugin.offer.version}, class `{plugin.offer.entry_point.value}`"]
    if getattr(plugin.plugin, "required", False):
        words.append("required unless its section says otherwise")
    if reason := getattr(plugin.plugin, "single_process", None):
        always = isinstance(reason, str)  # else a property, which looks at the options
        words.append(f"not for several workers: {reason}" if always else "with some options not for several workers")
    yield prose("; ".join(words) + ".")
    yield prose(f"Hooks: {_links(plugin)}")
    yield from _options(plugin, shared)


def _options(plugin: Shipped, shared: Shapes) -> Iterator[str]:
    section = getattr(plugin.plugin, "Config", None)
    if section is None:
        yield "It has no options."
        return
    same = _same_as_all(section) if issubclass(section, ProviderConfig) else set()
    shapes = Shapes(told=shared.mentioned, owner=plugin.name)
    own = shapes.table(section, without=same)
    link = f"[those of every provider]({anchor(EVERY_PROVIDER)})"
    if same:
        yield f"Options: {link}{', and' if own else '.'}"
    yield own
    yield from shapes.pages("####")


def _same_as_all(section: type) -> set[str]:
    """The keys that mean in this section what they mean in every provider's."""
    ours, theirs = keys_of(ProviderConfig), keys_of(section)
    return {
        key
        for key, (attribute, hint) in ours.items()
        if key in theirs
        and (theirs[key][1], theirs[key][0].default, theirs[key][0].metadata)
        == (hint, attribute.default, attribute.metadata)
    }


# The page of the providers

ABOUT_PROVIDERS = """
Every provider that speaks OpenAI's format, as the data file beside its plugin tells it; the options of each stand with
[its plugin](plugins.md#providers). Nothing of it was checked against the live services, and free tiers change without
notice: each has the date on which it was looked up, and `routerpool doctor` warns of a file that is older than 180
days. `models:` in YAML, and `<PROVIDER>_MODELS` and `<PROVIDER>_BASE_URL` in the environment, overrule it.

A provider without its key is idle, not an error; *none* as a key is for servers that ask for none. One key is one
instance: a second key is a second named instance of the plugin (`second: {use: groq, api_key_env: SECOND_KEY}`), and
shares the first one's quotas unless it says `separate_account: true`. No key is ever changed for another because of a
limit.

*known* are the models of the data file; *asked* means that the provider's own list says which of them are left.
*prompts* tells what the provider's terms say of them: whether they may be used for training, or that they stay on your
machine. [Privacy](privacy.md) says what follows from it.
"""


def providers_page() -> str:
    """The page: where each provider is, its key, its models, its free tier, and what becomes of prompts there."""
    return f"# Providers\n\n{prose(ABOUT_PROVIDERS)}\n\n{_providers()}\n"


def _providers() -> str:
    rows = ["| provider | address | key | its models | free tier | prompts |", "|---|---|---|---|---|---|"]
    known = installed()
    ours = {path.parent.name for path in ROOT.glob("plugins/providers/*/pyproject.toml")}
    for name, offer in sorted(known.items()):
        plugin = offer.load()
        if offer.distribution.removeprefix("routerpool-").replace("-", "_") not in ours:
            continue
        if not issubclass(plugin, OpenAIProvider):
            continue
        data = load_data(plugin, plugin.data) if plugin.data else ProviderData()
        variables = plugin.api_key_env or data.api_key_env
        keys = " or ".join(f"`{key}`" for key in ([variables] if isinstance(variables, str) else variables))
        asked = bool(plugin.models_at or data.models_at) or plugin.discover is not OpenAIProvider.discover
        models = ", ".join(filter(None, (f"{len(data.models)} known" if data.models else "", "asked" if asked else "")))
        pages = (("key", data.key_page), ("terms", data.terms))
        links = [f"[{what}]({url})" if url.startswith("https://") else url for what, url in pages if url]
        dated = not data.free_tier or re.search(r"\d{4}-\d{2}", data.free_tier)
        free = data.free_tier if dated else f"{data.free_tier} ({data.date})"
        told = {"may_train": "may be trained on", "no_training": "not trained on"}.get(data.data_policy, "unknown")
        address = plugin.base_url or data.base_url
        cells = (
            f"`{name}`{' (experimental)' if data.experimental else ''}",
            f"`{address}`" if address else "yours",
            " ".join(filter(None, (keys or "none", *links))),
            models or "yours",
            free,
            "stay here" if plugin.local or data.local else told,
        )
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows)
