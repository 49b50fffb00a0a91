"""What `routerpool plugins new` writes: a whole package around a plugin of one kind, ready to be installed and tested.

The files stand in `templates/` as they will be, with `$name` and a few others to fill in: `common` for every kind, a
folder for each. The author changes what is written, so nothing of it is made by code that hides what it does.
"""

from __future__ import annotations

import keyword
import re
import sys
from collections.abc import Iterable, Mapping
from datetime import date
from importlib import resources
from pathlib import Path
from string import Template
from typing import Final

from attrs import frozen

from routerpool.errors import PluginError
from routerpool.hooks.compatibility import supported
from routerpool.hooks.loading import Installed

__all__ = ["KINDS", "Package", "check_name", "write"]

KINDS: Final[Mapping[str, str]] = {
    "provider": "The $name inference server for routerpool",
    "scanner": "Keeps requests with internal ticket numbers on local models, for routerpool",
    "strategy": "Prefers models with a tag, for routerpool",
    "mutator": "Limits the length of answers that nobody has limited, for routerpool",
    "resilience": "Lets candidates rest that fail again and again, for routerpool",
    "door": "A door for plain prompts into routerpool",
    "operation": "Keeps a journal of requests to routerpool",
}
"""Every kind of plugin, and the summary of its sample."""

PLACES: Final[Mapping[str, str]] = {
    "pyproject.toml": "pyproject.toml",
    "README.md": "README.md",
    "gitignore": ".gitignore",
    "test.yml": ".github/workflows/test.yml",
    "module.py": "$module.py",
    "tests.py": "tests/test_$name.py",
}
"""Where each template goes. A module with data beside it is a folder: see `Package.files`."""

_NAME: Final = re.compile(r"[a-z][a-z0-9]*([_-][a-z0-9]+)*")
LONGEST = 24
"""Characters of a name, so that what is written around it keeps to its lines."""


@frozen
class Package:
    """A plugin's name and kind, and all names and texts that follow from them."""

    name: str
    kind: str

    @property
    def folder(self) -> str:
        """The folder's name and the distribution's."""
        return f"routerpool-{self.name.replace('_', '-')}"

    @property
    def fields(self) -> dict[str, str]:
        """What is filled in."""
        fields = {
            "name": self.name,
            "dashed": self.name.replace("_", "-"),
            "dist": self.folder,
            "module": f"routerpool_{self.name}",
            "Class": "".join(word.capitalize() for word in self.name.split("_")),
            "VARIABLE": self.name.upper(),
            "title": f"The {self.name} inference server",
            "core": supported(),
            "today": date.today().isoformat(),  # noqa: DTZ011 - the author's own day
        }
        fields["summary"] = Template(KINDS[self.kind]).substitute(fields)
        fields["section"] = _filled(f"{self.kind}/section.yaml", fields)
        return fields

    def files(self) -> dict[str, str]:
        """Every file's text by its path in the folder."""
        fields = self.fields
        places = {**PLACES}
        if self.kind == "provider":  # what is known of a provider is data, and lies beside the code
            places |= {"module.py": "$module/__init__.py", "data.yaml": "$module/$name.yaml"}
            places |= {"forms.yaml": "tests/forms.yaml"}
        made = {}
        for template, place in places.items():
            own = template in ("module.py", "tests.py", "data.yaml", "forms.yaml")
            path = Template(place).substitute(fields)
            made[path] = _filled(f"{self.kind if own else 'common'}/{template}", fields)
        return made


def _filled(template: str, fields: Mapping[str, str]) -> str:
    text = resources.files("routerpool.authoring").joinpath("templates", f"{template}.tmpl").read_text(encoding="utf-8")
    return Template(text).substitute(fields)


def check_name(given: str, known: Mapping[str, Installed], commands: Iterable[str]) -> str:
    """The plugin's name, dashes made underscores; a PluginError says why it cannot be one.

    `known` are the installed plugins, `commands` the names of routerpool's own commands.
    """
    name = given.replace("-", "_")
    if not _NAME.fullmatch(given) or len(given) > LONGEST:
        raise PluginError(
            f"{given!r} cannot be a plugin's name: write small letters and digits, words joined by '-' or '_', "
            f"at most {LONGEST} characters, such as my-lab"
        )
    if name.split("_")[0] == "routerpool":
        rest = given[len("routerpool") :].lstrip("-_") or "lab"
        raise PluginError(f"the package's name begins with routerpool- in any case; say `{rest}`")
    if keyword.iskeyword(name) or name in sys.stdlib_module_names:
        raise PluginError(f"{name!r} is Python's own word; take another, such as my-{given}")
    if given in commands:
        raise PluginError(f"`routerpool {given}` is a command already; take another name, such as my-{given}")
    other = known.get(name)
    if other is not None:
        raise PluginError(
            f"{other.distribution} {other.version} offers a plugin called {name!r} already, and "
            f"{Package(name, 'provider').folder} would clash with it; take another name, such as my-{given}"
        )
    return name


def write(package: Package, into: Path) -> Path:
    """Write the package as a new folder in `into`, which is made where it is missing; the folder.

    Nothing is written over: a FileExistsError tells of what is there already.
    """
    files, folder = package.files(), into / package.folder
    into.mkdir(parents=True, exist_ok=True)
    folder.mkdir()
    for path, text in files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8", newline="\n")
    return folder
