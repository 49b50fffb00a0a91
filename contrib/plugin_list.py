"""Writes the lists of plugins and of providers into the README: `python contrib/plugin_list.py [--check]`.

Both come from the plugins themselves and their data files.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

import attrs

from routerpool.hooks import HOOKS, installed
from routerpool.provider import OpenAIProvider
from routerpool.provider_data import ProviderData, load_data

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- {}:begin (made by contrib/plugin_list.py, checked by a test) -->", "<!-- {}:end -->"
FAMILIES = {
    "providers": "Providers: who answers",
    "strategies": "Strategies: who should",
    "resilience": "Resilience: what was learned about who can",
    "privacy": "Privacy: what is in the text, and who may see it",
    "mutators": "Mutators: what is sent",
    "apis": "Doors: other wire formats into the same engine",
    "operations": "Operations: what people look at",
}


def listed() -> str:
    """The list as Markdown, one table a family."""
    known = installed()
    lines: list[str] = []
    for family, title in FAMILIES.items():
        folders = sorted(path.parent for path in ROOT.glob(f"plugins/{family}/*/pyproject.toml"))
        if not folders:
            continue
        lines += [f"**{title}**", "", "| plugin | what it does | hooks | options |", "|---|---|---|---|"]
        for folder in folders:
            project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
            plugin = known[folder.name].load()
            hooks = [name for name in HOOKS if callable(getattr(plugin, name, None))]
            config = getattr(plugin, "Config", None)
            options = [field.name for field in attrs.fields(config)] if config else []
            cells = (f"`{folder.name}`", project["description"], ", ".join(hooks), ", ".join(f"`{o}`" for o in options))
            lines.append("| " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join(lines).strip()


def providers() -> str:
    """The providers' table as Markdown: what each data file says."""
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


def put(text: str, name: str, made: str) -> str:
    """The text with this part of it made anew."""
    begin, end = BEGIN.format(name), END.format(name)
    before, _, rest = text.partition(begin)
    _, _, after = rest.partition(end)
    return f"{before}{begin}\n{made}\n{end}{after}"


def main() -> int:
    """Write the lists, or with --check say whether they are what the plugins say."""
    readme = ROOT / "README.md"
    text = readme.read_text()
    made = put(put(text, "plugins", listed()), "providers", providers())
    if "--check" in sys.argv:
        if made != text:
            print("the README's plugin list is not what the plugins say; run `python contrib/plugin_list.py`")
        return int(made != text)
    readme.write_text(made)
    return 0


if __name__ == "__main__":
    sys.exit(main())
