"""Writes the plugin list into the README from the plugins themselves: `python contrib/plugin_list.py [--check]`."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

import attrs

from routerpool.hooks import HOOKS, installed

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- plugins:begin (made by contrib/plugin_list.py, checked by a test) -->", "<!-- plugins:end -->"
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


def main() -> int:
    """Write the list, or with --check say whether it is what the plugins say."""
    readme = ROOT / "README.md"
    text = readme.read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    made = f"{before}{BEGIN}\n{listed()}\n{END}{after}"
    if "--check" in sys.argv:
        if made != text:
            print("the README's plugin list is not what the plugins say; run `python contrib/plugin_list.py`")
        return int(made != text)
    readme.write_text(made)
    return 0


if __name__ == "__main__":
    sys.exit(main())
