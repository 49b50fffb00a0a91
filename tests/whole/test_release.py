"""One release of everything: what is alike, what changes with a version, and what is built of it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tomllib
import zipfile
from datetime import date
from hashlib import sha256
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from click.testing import CliRunner, Result
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from routerpool import __version__
from routerpool.authoring.package import KINDS, Package
from routerpool.hooks.compatibility import supported
from routerpool.hooks.detection import default_plugins
from routerpool.hooks.loading import installed

ROOT = Path(__file__).resolve().parents[2]
DAY = date(2027, 1, 2)


def script(root: Path) -> ModuleType:
    """The release script of this checkout, or of a copy."""
    spec = spec_from_file_location("release", root / "contrib" / "release.py")
    assert spec is not None
    assert spec.loader is not None
    sys.modules["release"] = module = module_from_spec(spec)  # attrs looks its own module up
    spec.loader.exec_module(module)
    return module


RELEASE = script(ROOT)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """What a release changes, to be changed."""
    root = tmp_path / "copy"
    left = shutil.ignore_patterns("tests", "__pycache__", "build", "dist")
    for folder in ("routerpool", "plugins", "contrib/litellm", "contrib/docs"):
        shutil.copytree(ROOT / folder, root / folder, ignore=left)
    for name in ("pyproject.toml", "setup.cfg", "README.md", "CHANGELOG.md", "LICENSE", "contrib/release.py"):
        shutil.copy2(ROOT / name, root / name)
    return root


def contents(root: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file() and path.suffix != ".pyc"}


def run(root: Path, *args: str) -> Result:
    result = CliRunner().invoke(script(root).cli, args)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


# What is alike


def test_nothing_differs() -> None:
    assert list(RELEASE.faults()) == []


PROJECTS = [*sorted(ROOT.glob("plugins/*/*/pyproject.toml")), ROOT / "contrib" / "litellm" / "pyproject.toml"]


@pytest.mark.parametrize("path", PROJECTS, ids=lambda path: path.parent.name)
def test_a_package_has_the_cores_version_and_says_which_cores_it_is_for(path: Path) -> None:
    project = tomllib.loads(path.read_text())["project"]
    assert project["version"] == __version__
    assert f"routerpool{supported()}" in project["dependencies"]


def test_the_script_knows_every_package() -> None:
    assert [package.folder for package in RELEASE.packages()] == [ROOT, *(path.parent for path in PROJECTS)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_package_that_is_begun_says_which_cores_it_is_for(kind: str) -> None:
    files = Package("lab", kind).files()
    assert tomllib.loads(files["pyproject.toml"])["project"]["dependencies"] == [f"routerpool{supported()}"]
    module = files.get("routerpool_lab.py") or files["routerpool_lab/__init__.py"]
    assert f'requires_core = "{supported()}"' in module


BREAKS = {
    "the core's version": ("routerpool/version.py", __version__, "9.9", "routerpool/version.py: pyproject.toml says"),
    "a plugin's version": (
        "plugins/privacy/pii/pyproject.toml",
        f'version = "{__version__}"',
        'version = "9.9"',
        f"plugins/privacy/pii/pyproject.toml: version 9.9, and the core is {__version__}",
    ),
    "a range": (
        "plugins/privacy/pii/pyproject.toml",
        supported(),
        ">=0.1",
        f"it needs routerpool>=0.1, which should be routerpool{supported()}",
    ),
    "a range of another plugin": (
        "plugins/operations/demo/pyproject.toml",
        f"routerpool-sandbox{supported()}",
        "routerpool-sandbox",
        f"it needs routerpool-sandbox, which should be routerpool-sandbox{supported()}",
    ),
    "no dependency": (
        "contrib/litellm/pyproject.toml",
        f'"routerpool{supported()}"',
        "",
        f"contrib/litellm/pyproject.toml: it does not depend on routerpool{supported()}",
    ),
    "the range in a class": (
        "plugins/operations/demo/routerpool_demo/__init__.py",
        supported(),
        ">=99",
        f"plugins/operations/demo/routerpool_demo/__init__.py: requires_core is >=99, not {supported()}",
    ),
    "no heading": ("CHANGELOG.md", "## ", "### ", "CHANGELOG.md: it has no heading"),
}


@pytest.mark.parametrize("case", BREAKS)
def test_what_differs_is_named_with_its_file(copy: Path, case: str) -> None:
    name, old, new, said = BREAKS[case]
    text = (copy / name).read_text()
    assert old in text
    (copy / name).write_text(text.replace(old, new))
    result = run(copy, "check")
    [line] = result.output.splitlines()
    assert result.exit_code == 1
    assert said in line


@pytest.mark.parametrize(
    ("heading", "alike"), [("9.9 (unreleased)", True), ("9.9 (2027-01-02)", False), ("0.0.1 (unreleased)", False)]
)
def test_the_changelogs_newest_heading_is_of_this_release_or_of_the_next(copy: Path, heading: str, alike: bool) -> None:
    log = copy / "CHANGELOG.md"
    log.write_text(f"# Changelog\n\n## {heading}\n\n- This.\n")
    assert [line.partition(":")[0] for line in RELEASE.faults(copy)] == ([] if alike else ["CHANGELOG.md"])


# Extras


def extras(root: Path = ROOT) -> dict[str, set[str]]:
    """What each extra of the core installs of ours, with those that it takes in."""
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    told = {extra: [Requirement(line) for line in lines] for extra, lines in project["optional-dependencies"].items()}

    def names(extra: str) -> set[str]:
        found = {f"{r.name}{r.specifier}" for r in told[extra] if r.name != "routerpool"}
        return found.union(*(names(inner) for r in told[extra] if r.name == "routerpool" for inner in r.extras))

    return {extra: names(extra) for extra in told if extra != "test"}


def distributions(root: Path, family: str = "*") -> set[str]:
    """What an extra should name, read from the folders."""
    names = [path.parent.name.replace("_", "-") for path in root.glob(f"plugins/{family}/*/pyproject.toml")]
    return {f"routerpool-{name}{SpecifierSet(supported())}" for name in names}


def test_there_is_an_extra_for_each_family_for_the_default_set_and_for_all() -> None:
    families = {path.parent.parent.name for path in ROOT.glob("plugins/*/*/pyproject.toml")}
    told = extras()
    assert told.keys() == {"all", "default", *families}
    for family in families:
        assert told[family] == distributions(ROOT, family)
    assert told["all"] == distributions(ROOT)
    default = default_plugins(installed())
    assert told["default"] == {f"routerpool-{n.replace('_', '-')}{SpecifierSet(supported())}" for n in default}


def test_uv_finds_every_plugin_in_the_workspace() -> None:
    sources = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["uv"]["sources"]
    assert sources.keys() == {"routerpool", *(Requirement(name).name for name in distributions(ROOT))}
    assert all(source == {"workspace": True} for source in sources.values())


@pytest.mark.parametrize("family", ["strategies", "mutators"])
def test_a_new_plugin_that_stands_in_no_extra_is_told_and_one_command_mends_it(copy: Path, family: str) -> None:
    folder = copy / "plugins" / family / "coin"
    shutil.copytree(ROOT / "plugins" / "strategies" / "ranked", folder, ignore=shutil.ignore_patterns("tests"))
    project = folder / "pyproject.toml"
    project.write_text(project.read_text().replace("ranked", "coin"))
    told = run(copy, "check")
    assert (told.exit_code, told.output) == (
        1,
        "pyproject.toml: the extras are not those of the plugins; run `python contrib/release.py extras`\n",
    )
    before = contents(copy)
    assert f'+    "routerpool-coin{supported()}",' in run(copy, "extras", "--dry-run").output
    assert contents(copy) == before
    assert run(copy, "extras").exit_code == 0
    assert run(copy, "check").exit_code == 0
    assert extras(copy)[family] == distributions(copy, family)
    assert extras(copy)["all"] == distributions(copy)


def test_an_extra_that_somebody_has_changed_is_told(copy: Path) -> None:
    project = copy / "pyproject.toml"
    project.write_text(project.read_text().replace(f'    "routerpool-groq{supported()}",\n', ""))
    assert len(list(RELEASE.faults(copy))) == 1
    project.write_text(project.read_text().replace("# extras:begin", "# extras:"))
    [fault] = RELEASE.faults(copy)
    assert fault.startswith("pyproject.toml: there is no part `# extras:begin")


# A new version


def test_set_writes_one_version_and_one_range_everywhere_and_dates_the_changelog(copy: Path) -> None:
    before = contents(copy)
    result = run(copy, "set", "9.1.0", "--date", "2027-01-02")
    assert result.exit_code == 0, result.output
    assert list(RELEASE.faults(copy)) == []
    packages = RELEASE.packages(copy)
    assert {package.version for package in packages} == {"9.1.0"}
    assert {str(r.specifier) for package in packages[1:] for r in package.needs if r.name == "routerpool"} == {
        "<11,>=9.1"
    }
    assert 'requires_core = ">=9.1,<11"' in (copy / "plugins/operations/demo/routerpool_demo/__init__.py").read_text()
    assert "## 9.1.0 (2027-01-02)\n" in (copy / "CHANGELOG.md").read_text()
    assert "(unreleased)" not in (copy / "CHANGELOG.md").read_text()
    after = contents(copy)
    changed = [path.relative_to(copy).as_posix() for path in after if after[path] != before[path]]
    assert {"contrib/docs/authoring.md", "routerpool/version.py", "routerpool/hookspecs.py", "CHANGELOG.md"} <= set(
        changed
    )
    for name in changed:
        old, new = before[copy / name].splitlines(), after[copy / name].splitlines()
        lines = [line for number, line in enumerate(old) if line != new[number]]
        assert len(old) == len(new)
        meant = (b"version", supported().encode(), b"(unreleased)")
        assert all(any(word in line for word in meant) for line in lines), name


def test_a_dry_run_tells_each_line_and_writes_nothing(copy: Path) -> None:
    before = contents(copy)
    result = run(copy, "set", "9.1.0", "--dry-run")
    assert result.exit_code == 0
    assert f'-__version__ = "{__version__}"\n+__version__ = "9.1.0"\n' in result.output
    assert "+++ plugins/providers/groq/pyproject.toml\n" in result.output
    assert contents(copy) == before


def test_a_changelog_without_news_and_a_version_that_is_none_are_refused(copy: Path) -> None:
    before = contents(copy)
    assert "Invalid version" in run(copy, "set", "nine").output
    assert run(copy, "set", "nine").exit_code == 1
    assert contents(copy) == before
    assert run(copy, "set", "9.1.0").exit_code == 0
    result = run(copy, "set", "9.2.0")
    assert result.exit_code == 1
    assert "say what is new first" in result.output
    assert RELEASE.packages(copy)[0].version == "9.1.0"


# What is built


def chosen(*names: str) -> list[Any]:
    return [package for package in RELEASE.packages() if package.name in names]


def checked(folder: Path) -> dict[str, str]:
    """The checksums, after each was found to be right."""
    lines = [line.split("  ") for line in (folder / "SHA256SUMS").read_text().splitlines()]
    for digest, name in lines:
        assert sha256((folder / name).read_bytes()).hexdigest() == digest, name
    return {name: digest for digest, name in lines}


def metadata(wheel: Path) -> tuple[str, list[str]]:
    """A wheel's METADATA, and the names of all its files."""
    with zipfile.ZipFile(wheel) as archive:
        [name] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        return archive.read(name).decode(), archive.namelist()


def test_sdists_and_wheels_are_built_with_their_checksums_and_the_bill(tmp_path: Path) -> None:
    packages = chosen("routerpool", "routerpool-demo")
    made = RELEASE.build(packages, tmp_path / "one", DAY)
    assert [path.name for path in made] == RELEASE.planned(packages)
    assert set(made) == set((tmp_path / "one").iterdir())
    sums = checked(tmp_path / "one")
    assert sums.keys() == {path.name for path in made} - {"SHA256SUMS"}

    told, files = metadata(made[1])
    assert f"Version: {__version__}\n" in told
    shipped = {name for name in files if name.startswith("routerpool/")}
    left = ("__pycache__", ".pyc")
    ours = {path.relative_to(ROOT).as_posix() for path in (ROOT / "routerpool").rglob("*") if path.is_file()}
    assert shipped == {name for name in ours if not any(part in name for part in left)}

    told, files = metadata(made[3])
    assert f"Requires-Dist: routerpool-sandbox{supported()}\n" in told
    assert f"routerpool_demo-{__version__}.dist-info/licenses/LICENSE" in files
    assert not [name for name in files if "test" in name]

    with zipfile.ZipFile(made[3]) as archive:
        assert {entry.date_time[:3] for entry in archive.infolist()} == {(2027, 1, 2)}
    again = RELEASE.build(packages[1:], tmp_path / "two", DAY)
    assert [sums[path.name] for path in again[:2]] == [sha256(path.read_bytes()).hexdigest() for path in again[:2]]


@pytest.mark.slow
def test_everything_is_built(tmp_path: Path) -> None:
    packages = RELEASE.packages()
    made = RELEASE.build(packages, tmp_path, DAY)
    assert [path.name for path in made] == RELEASE.planned(packages)
    assert len(checked(tmp_path)) == 2 * len(packages) + 1
    for package in packages:
        told, files = metadata(tmp_path / package.files[1])
        assert f"Name: {package.name}\nVersion: {__version__}\n" in told
        assert [name for name in files if name.endswith("/LICENSE")]


def test_the_bill_is_cyclonedx_and_names_every_package_and_what_it_needs() -> None:
    packages = RELEASE.packages()
    sums = {name: sha256(name.encode()).hexdigest() for package in packages for name in package.files}
    text = RELEASE.bill(packages, sums, DAY)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    told = json.loads(text)
    assert told["metadata"]["component"]["purl"] == f"pkg:pypi/routerpool@{__version__}"
    parts = {part["name"]: part for part in [told["metadata"]["component"], *told["components"]]}
    for package in packages:
        part = parts[package.name]
        assert (part["version"], part["licenses"]) == (__version__, [{"license": {"id": "MIT"}}])
        files = {file["url"]: file["hashes"][0]["content"] for file in part["externalReferences"]}
        assert files == {name: sums[name] for name in package.files}
    edges = {entry["ref"]: set(entry.get("dependsOn", ())) for entry in told["dependencies"]}
    assert {"aiohttp", "sqlalchemy", "uvloop"} <= edges["routerpool"]
    assert "pytest" not in parts
    assert edges["routerpool-prices"] == {"routerpool", "genai-prices"}
    assert edges["routerpool-demo"] == {
        "routerpool",
        "routerpool-breaker",
        "routerpool-free-first",
        "routerpool-sandbox",
    }
    assert "google-re2" in edges["routerpool-secrets"]
    assert (parts["google-re2"]["scope"], parts["aiohttp"]["scope"]) == ("optional", "required")
    assert parts["genai-prices"]["properties"][0]["value"].startswith("routerpool-prices: genai-prices>=")
    assert RELEASE.bill(packages, sums, DAY) == text


def test_a_dry_build_names_every_file_and_writes_nothing(copy: Path, tmp_path: Path) -> None:
    before, out = contents(copy), tmp_path / "out"
    result = run(copy, "build", "--out", str(out), "--dirty", "--dry-run")
    assert result.exit_code == 0, result.output
    names = [Path(line).name for line in result.output.splitlines()]
    assert names == RELEASE.planned(RELEASE.packages())
    assert len(names) == 2 * len(PROJECTS) + 4
    assert contents(copy) == before
    assert not out.exists()


def test_nothing_is_built_where_something_differs_or_is_in_the_way(copy: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("x")
    result = run(copy, "build", "--out", str(tmp_path), "--dirty")
    assert (result.exit_code, result.output) == (1, f"Error: {tmp_path} is not empty\n")
    version = copy / "routerpool" / "version.py"
    version.write_text(version.read_text().replace(__version__, "9.9"))
    result = run(copy, "build", "--out", str(tmp_path / "out"), "--dirty")
    assert result.exit_code == 1
    assert "routerpool/version.py" in result.output
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(shutil.which("git") is None, reason="asks git what is committed")
def test_what_is_not_committed_is_not_built(copy: Path, tmp_path: Path) -> None:
    def build() -> Result:
        return run(copy, "build", "--out", str(tmp_path / "out"), "--dry-run")

    def git(*args: str) -> None:
        who = ("-c", "user.name=nobody", "-c", "user.email=nobody@example.org")
        subprocess.run(["git", *who, *args], cwd=copy, check=True, capture_output=True)

    assert "git cannot tell" in build().output
    git("init", "--quiet")
    git("add", "--all")
    assert "not committed, which --dirty allows: A  LICENSE" in build().output
    git("commit", "--quiet", "--message", "all")
    assert build().exit_code == 0, build().output
    (copy / "routerpool" / "stray.py").write_text("")
    assert build().exit_code == 1
