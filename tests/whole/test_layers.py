"""The house stands: every module has its floor, leans on lower ones only, and costs little to import."""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from graphlib import TopologicalSorter
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
CORE = ROOT / "routerpool"
MOST_LINES, MOST_OF_MANUALS, MOST_OF_A_CLASS, MOST_OF_A_ROOM = 450, 600, 250, 2100
MANUALS = ("routerpool.hookspecs", "routerpool.types")  # one file each, so that authors read one file
IMPORT_SECONDS = 0.5

ROOMS = (  # the rule: lowest first, a room imports only from those above it in this list, types included
    *("version", "types", "errors", "protocols", "hookspecs"),
    *("document", "config"),
    "wire",
    "store",
    "hooks",
    "privacy",
    "refusals",
    "providers",
    "planning",
    "engine",
    *("overview", "router"),
    "http",
    "server",
    "process",
    "terminal",
    *("authoring", "testing"),
    *("routerpool", "cli", "__main__"),
)
FLOOR = {name: floor for floor, name in enumerate(ROOMS)}


def _module(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {_module(path): path for path in sorted(CORE.rglob("*.py"))}


class Import(NamedTuple):
    """One import of a module of ours; `late` ones stand inside a function."""

    line: int
    target: str
    late: bool


def imports(tree: ast.AST, late: bool = False) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool]]:
    """All import statements, those that only type checkers see among them, and whether they stand in a function."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node, late
        else:
            inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from imports(node, late or inside)


def ours(name: str) -> list[Import]:
    """What a module imports of this package; `from routerpool.x import y` means the module y where there is one."""
    found = []
    for node, late in imports(ast.parse(FILES[name].read_text())):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif node.level:
            pytest.fail(f"{name}:{node.lineno} imports relatively; write the whole name")
        else:
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            targets = [target if target in FILES else node.module or "" for target in inner]
        found += [Import(node.lineno, target, late) for target in targets if target.split(".")[0] == "routerpool"]
    return found


def room(module: str) -> str:
    """The room of a module; what stands at the top is a room of its own."""
    return [*module.split("."), "routerpool"][1]


def test_every_room_has_its_place_in_the_rule() -> None:
    assert {room(name) for name in FILES} == set(ROOMS)


@pytest.mark.parametrize("name", FILES)
def test_imports_point_downwards(name: str) -> None:
    upwards = [
        f"{name}:{line} imports {target}" for line, target, _ in ours(name) if FLOOR[room(target)] > FLOOR[room(name)]
    ]

    assert upwards == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    towards = {name: {target for _, target, _ in ours(name)} - {name} for name in FILES}
    order = TopologicalSorter(towards)

    order.prepare()  # raises a CycleError that names them


@pytest.mark.parametrize("name", FILES)
def test_an_import_inside_a_function_says_why(name: str) -> None:
    text = FILES[name].read_text()
    lines = text.splitlines()
    told = "import" in (ast.get_docstring(ast.parse(text)) or "")
    silent = [line for line, _, late in ours(name) if late and "#" not in lines[line - 2] + lines[line - 1]]

    assert told or silent == [], "say in the module's docstring, or in a comment beside it, why it is imported so late"


def test_the_package_itself_imports_no_module_of_ours_but_its_version() -> None:
    assert [target for _, target, _ in ours("routerpool")] == ["routerpool.version"]


def test_the_checks_see_late_imports_and_what_only_type_checkers_see() -> None:
    source = "if TYPE_CHECKING:\n    import a\nelse:\n    import b\ndef f():\n    from c import d\n"
    seen = [(ast.unparse(node), late) for node, late in imports(ast.parse(source))]

    assert seen == [("import a", False), ("import b", False), ("from c import d", True)]


@pytest.mark.parametrize("name", [name for name in FILES if not name.startswith("routerpool.testing")])
def test_a_module_can_be_read_in_one_sitting(name: str) -> None:
    most = MOST_OF_MANUALS if name in MANUALS else MOST_LINES
    assert len(FILES[name].read_text().splitlines()) <= most


@pytest.mark.parametrize("name", [name for name in FILES if not name.startswith("routerpool.testing")])
def test_a_class_fits_on_a_few_screens(name: str) -> None:
    classes = [node for node in ast.walk(ast.parse(FILES[name].read_text())) if isinstance(node, ast.ClassDef)]
    long = {node.name: (node.end_lineno or 0) - node.lineno + 1 for node in classes}
    assert {name: lines for name, lines in long.items() if lines > MOST_OF_A_CLASS} == {}


@pytest.mark.parametrize("room", [name for name in ROOMS if (CORE / name).is_dir() and name != "testing"])
def test_a_room_is_no_larger_than_one_can_know(room: str) -> None:
    lines = sum(len(path.read_text().splitlines()) for path in (CORE / room).rglob("*.py"))
    assert lines <= MOST_OF_A_ROOM


# In fresh interpreters

ALONE = """
import gc, json, os, sys
import aiohttp, attrs, cattrs, click, dotenv, multidict, orjson  # none of them ours
import pluggy, pytest, sqlalchemy, yaml, yarl
opened = []
sys.addaudithook(lambda event, args: opened.append(event) if event in EVENTS else None)
gc.disable()
found = {}
for name in sys.argv[1:]:
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            __import__(name)
            told = "opened a socket: " + ", ".join(opened) if opened else ""
        except BaseException as error:
            told = f"{type(error).__name__}: {error}"
        os.write(writer, told[:4000].encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        found[name] = pipe.read().decode()
    os.waitpid(child, 0)
print(json.dumps(found))
"""
EVENTS = 'EVENTS = {"socket.__new__", "socket.connect", "socket.bind", "socket.getaddrinfo"}\n'
COST = """
import json, sys, time
opened = []
sys.addaudithook(lambda event, args: opened.append(event) if event in EVENTS else None)
for name in sys.argv[2:]:
    __import__(name)
began = time.perf_counter()
__import__(sys.argv[1])
seconds = time.perf_counter() - began
print(json.dumps({"seconds": seconds, "modules": sorted(sys.modules), "opened": opened}))
"""


def python(script: str, *args: str) -> dict[str, object]:
    """What a script prints in an interpreter of its own."""
    command = [sys.executable, "-W", "error", "-c", EVENTS + script, *args]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    told: dict[str, object] = json.loads(done.stdout)
    return told


def test_every_module_can_be_imported_alone_and_opens_no_socket() -> None:
    assert {name: told for name, told in python(ALONE, *FILES).items() if told} == {}


def test_the_check_sees_a_module_that_is_broken_or_opens_a_socket(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("1 / 0")
    (tmp_path / "greedy.py").write_text("import socket\nsocket.socket().close()")
    script = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n" + ALONE

    assert python(script, "broken", "greedy") == {
        "broken": "ZeroDivisionError: division by zero",
        "greedy": "opened a socket: socket.__new__",
    }


def _cost(*names: str) -> tuple[float, set[str], list[str]]:
    """The seconds that the first of these costs when the others are there, what is imported then, what was opened."""
    told = python(COST, *names)
    seconds, modules, opened = told["seconds"], told["modules"], told["opened"]
    assert isinstance(seconds, float)
    assert isinstance(modules, list)
    assert isinstance(opened, list)
    return seconds, set(modules), opened


@pytest.mark.parametrize(
    ("name", "before"), [("routerpool", ()), ("routerpool.cli", ()), ("routerpool.testing", ("pytest",))]
)
def test_it_costs_little_to_import(name: str, before: tuple[str, ...]) -> None:
    best = 60.0
    for _ in range(3):
        seconds, modules, opened = _cost(name, *before)
        assert modules.isdisjoint({"aiohttp", "cattrs", "sqlalchemy"})
        assert opened == []
        best = min(best, seconds)
        if best < IMPORT_SECONDS:
            return
    pytest.fail(f"the best of three imports of {name} took {best:.2f} s")


def test_the_package_itself_imports_nothing_that_is_not_pythons() -> None:
    _, modules, _ = _cost("routerpool")
    foreign = {name.split(".")[0] for name in modules} - set(sys.stdlib_module_names) - {"routerpool", "__main__"}

    # what a .pth file of the environment has brought before us is none of ours
    assert foreign.isdisjoint({"attrs", "attr", "click", "pluggy", "orjson", "yaml", "dotenv", "uvloop"})


# The repository

TOP = {
    *("setup.cfg", "pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE"),
    *("routerpool", "plugins", "tests", "contrib"),
}


@pytest.mark.skipif(shutil.which("git") is None or not (ROOT / ".git").exists(), reason="asks git what is kept")
def test_the_top_level_holds_nothing_else() -> None:
    kept = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    names = {line.partition("/")[0] for line in kept.splitlines()}

    assert {name for name in names if not name.startswith(".")} == TOP


# Plugins

PLUGINS = {path.parent: path.parent.name for path in sorted(ROOT.glob("plugins/*/*/pyproject.toml"))}


def _sources(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*.py")):
        if not {"tests", "build", "__pycache__"} & set(path.relative_to(folder).parts):
            yield path


@pytest.mark.parametrize("folder", PLUGINS, ids=PLUGINS.values())
def test_a_plugin_imports_no_other_plugin_but_what_its_package_depends_on(folder: Path) -> None:
    own = f"routerpool_{folder.name}"
    needs = tomllib.loads((folder / "pyproject.toml").read_text())["project"]["dependencies"]
    may = {own} | {Requirement(need).name.replace("-", "_") for need in needs}
    sources = list(_sources(folder))
    foreign = []
    for path in sources:
        for node, _ in imports(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or own]
            roots = {name.split(".")[0] for name in names}
            foreign += [f"{path.name}:{node.lineno} {root}" for root in roots if root.startswith("routerpool_")]

    assert sources, "it has no module"
    assert [entry for entry in foreign if entry.split()[1] not in may] == []


def _inner_names(folder: Path) -> Iterator[str]:
    """What the sources in a folder import from deeper than a room, or from a room that does not offer it."""
    for path in _sources(folder):
        for node, _ in imports(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names if alias.name.count(".") and alias.name in FILES)
            elif node.module and node.module.split(".")[0] == "routerpool":
                offered = getattr(import_module(node.module), "__all__", ())
                deep = node.module.count(".") > 1
                yield from (f"{node.module}.{a.name}" for a in node.names if deep or a.name not in offered)


@pytest.mark.parametrize("folder", [*PLUGINS, ROOT / "contrib" / "litellm"], ids=lambda folder: folder.name)
def test_a_plugin_imports_what_a_room_offers_and_nothing_deeper(folder: Path) -> None:
    assert list(_inner_names(folder)) == []


def test_the_check_sees_what_is_deeper_than_a_room(tmp_path: Path) -> None:
    deep = "routerpool.wire.sse"
    source = f"from {deep} import Cutter\nfrom routerpool.wire import Cutter, Template\nimport {deep}"
    (tmp_path / "module.py").write_text(source)

    assert list(_inner_names(tmp_path)) == [
        "routerpool.wire.sse.Cutter",
        "routerpool.wire.Template",
        "routerpool.wire.sse",
    ]


@pytest.mark.parametrize("name", [name for name in ROOMS if (CORE / name).is_dir()])
def test_a_room_says_what_it_is_for_and_names_what_it_offers(name: str) -> None:
    face = import_module(f"routerpool.{name}")
    said = (face.__doc__ or "").splitlines()

    assert 6 <= len(said) <= 14
    assert 0 < len(face.__all__) <= 20
    for module in sorted(path.stem for path in (CORE / name).glob("[a-z]*.py")):
        assert name == "testing" or f"`{module}`" in face.__doc__, f"nothing says what {module} is for"


@pytest.mark.parametrize("folder", PLUGINS, ids=PLUGINS.values())
def test_a_plugin_is_named_after_its_folder(folder: Path) -> None:
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    offers = project["entry-points"]["routerpool"]

    assert project["name"] == f"routerpool-{folder.name.replace('_', '-')}"
    assert list(offers) == [folder.name]
    assert offers[folder.name].split(":")[0] == f"routerpool_{folder.name}"


def test_the_folder_names_of_plugins_are_unique_over_all_families() -> None:
    assert len(set(PLUGINS.values())) == len(PLUGINS)
