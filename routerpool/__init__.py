"""routerpool, an LLM router: one address for every client, each request to the cheapest model that will do it well.

What plugin authors and hosts need stands here by name. The names and their homes are read from the stub beside this
file, and each is imported when it is first used, so that `import routerpool` costs nothing and touches nothing.
"""

import re
from functools import cache
from importlib import import_module
from pathlib import Path

from routerpool.version import __version__ as __version__


@cache
def _homes() -> dict[str, str]:
    """The module of each public name, by `__init__.pyi`, which is also what type checkers read."""
    stub = Path(__file__).with_suffix(".pyi").read_text(encoding="utf-8")
    return {name: module for module, name in re.findall(r"^from (\S+) import \w+ as (\w+)$", stub, re.MULTILINE)}


def __getattr__(name: str) -> object:
    if name == "__all__":
        return sorted(_homes())
    if name.startswith("__") or name not in _homes():
        raise AttributeError(f"module 'routerpool' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_homes()[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted(_homes())
