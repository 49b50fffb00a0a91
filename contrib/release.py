"""One release of everything: the core, all plugins and the package for LiteLLM have one version and one range of cores.

    python contrib/release.py check             says what differs; exit code 1 if anything does
    python contrib/release.py set 0.2.0         writes the version everywhere, and dates the changelog
    python contrib/release.py extras            writes the extras and uv's sources anew, for the plugins that are there
    python contrib/release.py build --out DIR   builds wheels and sdists, their checksums and a bill of materials

`--dry-run` says what would be written, and writes nothing. Nothing is ever uploaded. What it needs is in the extra
`test`; no build asks the network.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time
from difflib import unified_diff
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import click
from attrs import frozen
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from routerpool.hooks.compatibility import supported
from routerpool.hooks.detection import default_plugins
from routerpool.hooks.loading import installed

ROOT = Path(__file__).resolve().parent.parent
CORE = "routerpool"
SUMS = "SHA256SUMS"

VERSION = re.compile(r'^((?:__)?version(?:__)? = )"[^"]*"$', re.MULTILINE)
HEADING = re.compile(r"^## (\S+) \((unreleased|\d{4}-\d\d-\d\d)\)$", re.MULTILINE)
PROMISE = re.compile(r'^ +requires_core = "([^"]*)"$', re.MULTILINE)

PART = "# {0}:begin (made by `python contrib/release.py extras`, checked by a test)\n{1}# {0}:end\n"
"""A part of the core's pyproject.toml that follows from the plugins that are there."""

NOT_SHIPPED = (".*", "__pycache__", "*.egg-info", "build", "contrib", "dist", "plugins", "tests", "uv.lock")
"""What of a package's folder has no place in its sdist, or is left over from an earlier build."""


@frozen
class Package:
    """A distribution of this repository: where it stands, and what its pyproject.toml says."""

    folder: Path
    project: Mapping[str, Any]

    @classmethod
    def of(cls, folder: Path) -> Package:
        """The package in this folder."""
        return cls(folder, tomllib.loads((folder / "pyproject.toml").read_text())["project"])

    @property
    def name(self) -> str:
        """The distribution's name."""
        return str(self.project["name"])

    @property
    def version(self) -> str:
        """Its version."""
        return str(self.project["version"])

    @property
    def needs(self) -> list[Requirement]:
        """What is installed with it."""
        return [Requirement(line) for line in self.project.get("dependencies", ())]

    @property
    def may_use(self) -> list[Requirement]:
        """What its extras bring, but for those that only its tests and other packages of ours need."""
        extras = self.project.get("optional-dependencies", {})
        found = [Requirement(line) for extra, lines in extras.items() if extra != "test" for line in lines]
        return [requirement for requirement in found if not _ours(requirement)]

    @property
    def modules(self) -> Iterator[Path]:
        """Its sources, without its tests."""
        for path in sorted(self.folder.glob("routerpool*/**/*.py")) + sorted(self.folder.glob("routerpool*.py")):
            if "__pycache__" not in path.parts:
                yield path

    @property
    def files(self) -> tuple[str, str]:
        """The names of its sdist and its wheel."""
        stem = f"{canonicalize_name(self.name).replace('-', '_')}-{self.version}"
        return f"{stem}.tar.gz", f"{stem}-py3-none-any.whl"


def packages(root: Path = ROOT) -> list[Package]:
    """All of them: the core, then the members of the workspace."""
    members = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["uv"]["workspace"]["members"]
    found = [path.parent for pattern in members for path in sorted(root.glob(f"{pattern}/pyproject.toml"))]
    return [Package.of(folder) for folder in [root, *found]]


def _ours(requirement: Requirement) -> bool:
    return requirement.name == CORE or requirement.name.startswith(f"{CORE}-")


# What differs


def faults(root: Path = ROOT) -> Iterator[str]:
    """All that is not alike, each on a line that begins with the file."""
    core, *others = packages(root)
    told = (root / CORE / "version.py").read_text()
    if f'__version__ = "{core.version}"' not in told:
        yield f"routerpool/version.py: pyproject.toml says {core.version}"
    for package in others:
        yield from _unlike(package, core.version, str(package.folder.relative_to(root)))
    try:
        if (root / "pyproject.toml").read_text() != with_extras(root):
            yield "pyproject.toml: the extras are not those of the plugins; run `python contrib/release.py extras`"
    except ValueError as error:
        yield str(error)
    heading = HEADING.search((root / "CHANGELOG.md").read_text())
    if heading is None:
        yield "CHANGELOG.md: it has no heading `## VERSION (unreleased)` or `## VERSION (DATE)`"
    elif heading[1] != core.version and (heading[2] != "unreleased" or Version(heading[1]) < Version(core.version)):
        yield f"CHANGELOG.md: its newest heading is {heading[1]}, and this is {core.version}"


def _unlike(package: Package, version: str, folder: str) -> Iterator[str]:
    wanted = supported(version)
    if package.version != version:
        yield f"{folder}/pyproject.toml: version {package.version}, and the core is {version}"
    ours = [requirement for requirement in package.needs if _ours(requirement)]
    if CORE not in [requirement.name for requirement in ours]:
        yield f"{folder}/pyproject.toml: it does not depend on {CORE}{wanted}"
    for requirement in ours:
        if requirement.specifier != SpecifierSet(wanted):
            yield f"{folder}/pyproject.toml: it needs {requirement}, which should be {requirement.name}{wanted}"
    for path in package.modules:
        for promise in PROMISE.findall(path.read_text()):
            if promise != wanted:
                yield f"{folder}/{path.relative_to(package.folder)}: requires_core is {promise}, not {wanted}"


# A new version


def released(version: str, day: date, root: Path = ROOT) -> dict[Path, str]:
    """Every file that changes with the version, as it will be; a ValueError where the changelog is not ready."""
    core, *others = packages(root)
    old, new = supported(core.version), supported(version)
    versions = [*(package.folder / "pyproject.toml" for package in (core, *others)), root / CORE / "version.py"]
    ranges = [path for package in others for path in package.modules if PROMISE.search(path.read_text())]
    ranges += [root / CORE / "hookspecs.py", root / "README.md", *sorted((root / "contrib" / "docs").glob("*.md"))]
    log = root / "CHANGELOG.md"
    heading = HEADING.search(log.read_text())
    if heading is None or heading[2] != "unreleased":
        raise ValueError("the newest heading of CHANGELOG.md is not `## VERSION (unreleased)`; say what is new first")
    texts = {path: path.read_text().replace(old, new) for path in (*versions, *ranges)}
    texts |= {path: VERSION.sub(rf'\g<1>"{version}"', texts[path], count=1) for path in versions}
    texts[log] = HEADING.sub(f"## {version} ({day})", log.read_text(), count=1)
    return {path: text for path, text in texts.items() if text != path.read_text()}


# Extras


def with_extras(root: Path = ROOT) -> str:
    """The core's pyproject.toml with an extra for each family, for the default set and for all plugins.

    uv finds each in the workspace, so each is named among its sources, too. A ValueError tells of a part's lost marks.
    """
    core, *others = packages(root)
    plugins = {package.folder.name: package for package in others if root / "plugins" in package.folder.parents}
    families: dict[str, list[Package]] = {}
    for package in plugins.values():
        families.setdefault(package.folder.parent.name, []).append(package)
    chosen = {"default": [plugins[name] for name in default_plugins(installed()) if name in plugins], **families}
    lines = [f'all = ["{CORE}[{",".join(families)}]"]']
    for extra, members in chosen.items():
        names = sorted(package.name for package in members)
        lines += [f"{extra} = [", *(f'    "{name}{supported(core.version)}",' for name in names), "]"]
    sources = [f"{name} = {{ workspace = true }}" for name in sorted(package.name for package in plugins.values())]
    text = (root / "pyproject.toml").read_text()
    return _put(_put(text, "extras", lines), "sources", sources)


def _put(text: str, name: str, lines: Iterable[str]) -> str:
    begin, end = PART.format(name, "\0").split("\0")
    head, found, rest = text.partition(begin)
    _, closed, tail = rest.partition(end)
    if not (found and closed):
        raise ValueError(f"pyproject.toml: there is no part `{begin.rstrip()}` … `{end.rstrip()}`")
    return head + PART.format(name, "".join(f"{line}\n" for line in lines)) + tail


# Building


def build(chosen: Sequence[Package], out: Path, day: date) -> list[Path]:
    """Build the sdist and the wheel of each into this folder, its checksums and the bill; the files.

    A wheel is made of the unpacked sdist, so one that lacks a file is seen here. `day` is the time in all that is
    built, so that the same sources give the same wheels.
    """
    out.mkdir(parents=True, exist_ok=True)
    made = [path for package in chosen for path in _built(package, out, day)]
    summed = {path.name: sha256(path.read_bytes()).hexdigest() for path in made}
    listed = out / bill_name(chosen)
    listed.write_text(bill(chosen, summed, day) + "\n")
    summed[listed.name] = sha256(listed.read_bytes()).hexdigest()
    (out / SUMS).write_text("".join(f"{digest}  {name}\n" for name, digest in sorted(summed.items())))
    return [*made, listed, out / SUMS]


def planned(chosen: Sequence[Package]) -> list[str]:
    """The names of all files that `build` makes."""
    return [*(name for package in chosen for name in package.files), bill_name(chosen), SUMS]


def _built(package: Package, out: Path, day: date) -> Iterator[Path]:
    from build import ProjectBuilder  # here, since the other commands do without
    from pyproject_hooks import quiet_subprocess_runner

    def run(cmd: Sequence[str], cwd: str | None = None, extra_environ: Mapping[str, str] | None = None) -> None:
        epoch = {"SOURCE_DATE_EPOCH": f"{_midnight(day).timestamp():.0f}"}
        quiet_subprocess_runner(cmd, cwd, {**(extra_environ or {}), **epoch})

    with TemporaryDirectory() as scratch:
        source = Path(scratch) / "source"
        shutil.copytree(package.folder, source, ignore=shutil.ignore_patterns(*NOT_SHIPPED))
        shutil.copy2(ROOT / "LICENSE", source)  # one text for all; each carries it
        sdist = Path(ProjectBuilder(source, runner=run).build("sdist", out))
        with tarfile.open(sdist) as archive:
            archive.extractall(scratch, filter="data")
        unpacked = Path(scratch) / sdist.name.removesuffix(".tar.gz")
        wheel = Path(ProjectBuilder(unpacked, runner=run).build("wheel", out))
    if (sdist.name, wheel.name) != package.files:
        raise RuntimeError(f"{package.name} was built as {sdist.name} and {wheel.name}, not as {package.files}")
    yield from (sdist, wheel)


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


# The bill of materials


def bill_name(chosen: Sequence[Package]) -> str:
    """The bill's file."""
    return f"{CORE}-{chosen[0].version}.cdx.json"


def bill(chosen: Sequence[Package], sums: Mapping[str, str], day: date) -> str:
    """What is released and what it needs, in CycloneDX 1.6: ours with version and checksums, others with their range.

    What of the others is installed is decided where it is installed, so they have no version here.
    """
    from cyclonedx.model import ExternalReference, ExternalReferenceType, HashAlgorithm, HashType, Property, XsUri
    from cyclonedx.model.bom import Bom
    from cyclonedx.model.component import Component, ComponentScope, ComponentType
    from cyclonedx.model.license import DisjunctiveLicense
    from cyclonedx.output.json import JsonV1Dot6
    from packageurl import PackageURL

    def own(package: Package) -> Component:
        files = [
            ExternalReference(
                type=ExternalReferenceType.DISTRIBUTION,
                url=XsUri(name),
                hashes=[HashType(alg=HashAlgorithm.SHA_256, content=sums[name])],
            )
            for name in package.files
        ]
        return Component(
            name=package.name,
            version=package.version,
            type=ComponentType.APPLICATION if package.name == CORE else ComponentType.LIBRARY,
            description=package.project["description"],
            licenses=[DisjunctiveLicense(id=package.project["license"])],
            purl=PackageURL("pypi", None, package.name, package.version),
            bom_ref=package.name,
            external_references=files,
        )

    def foreign(name: str) -> Component:
        told = sorted({f"{package.name}: {r}" for package in chosen for r in _all(package) if _key(r) == name})
        needed = any(_key(r) == name for package in chosen for r in package.needs)
        return Component(
            name=name,
            purl=PackageURL("pypi", None, name),
            bom_ref=name,
            scope=ComponentScope.REQUIRED if needed else ComponentScope.OPTIONAL,
            properties=[Property(name="routerpool:requires", value=line) for line in told],
        )

    known = {package.name: own(package) for package in chosen}
    names = {_key(requirement) for package in chosen for requirement in _all(package)}
    known |= {name: foreign(name) for name in sorted(names - known.keys())}
    whole = Bom(components=[known[name] for name in known if name != chosen[0].name])
    whole.metadata.component = known[chosen[0].name]
    whole.metadata.timestamp = _midnight(day)
    whole.serial_number = uuid5(NAMESPACE_URL, "\n".join(sorted(sums.values())))
    for package in chosen:
        whole.register_dependency(known[package.name], [known[_key(r)] for r in _all(package)])
    return JsonV1Dot6(whole).output_as_string(indent=2)


def _all(package: Package) -> Iterable[Requirement]:
    return [*package.needs, *package.may_use]


def _key(requirement: Requirement) -> str:
    return canonicalize_name(requirement.name)


# The commands


@click.group(help=(__doc__ or "").split("\n\n", maxsplit=1)[0])
def cli() -> None:
    """Everything is one release."""


dry_run = click.option("--dry-run", is_flag=True, help="Say what would be written, and write nothing.")
on = click.option("--date", "day", type=click.DateTime(["%Y-%m-%d"]), help="The day of the release; default is today.")


@cli.command("check")
def check_command() -> None:
    """Say what is not alike."""
    found = list(faults())
    for line in found:
        click.echo(line)
    sys.exit(1 if found else 0)


@cli.command("set")
@click.argument("version")
@on
@dry_run
def set_command(version: str, day: datetime | None, dry_run: bool) -> None:
    """Write VERSION everywhere, the range of cores that goes with it, and the day into the changelog."""
    try:
        changed = released(str(Version(version)), (day or datetime.now(UTC)).date())
    except (InvalidVersion, ValueError) as error:
        raise click.ClickException(str(error)) from error
    _write(changed, dry_run)
    click.echo("next: uv sync --all-packages --group real && uv run --no-sync python contrib/pages/write.py")


def _uncommitted() -> Iterator[str]:
    try:
        command = ["git", "status", "--porcelain"]
        told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        yield f"git cannot tell whether all is committed ({error}); say --dirty if it is"
        return
    yield from (f"not committed, which --dirty allows: {line}" for line in told.splitlines())


def _write(texts: Mapping[Path, str], dry_run: bool) -> None:
    for path, text in texts.items():
        name = str(path.relative_to(ROOT))
        for line in unified_diff(path.read_text().splitlines(), text.splitlines(), name, name, n=0, lineterm=""):
            click.echo(line)
        if not dry_run:
            path.write_text(text)


@cli.command("extras")
@dry_run
def extras_command(dry_run: bool) -> None:
    """Write the extras and uv's sources anew."""
    path = ROOT / "pyproject.toml"
    _write({path: with_extras()}, dry_run)


@cli.command("build")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="An empty or new folder.")
@click.option("--dirty", is_flag=True, help="Build also what is not committed.")
@on
@dry_run
def build_command(out: Path, dirty: bool, day: datetime | None, dry_run: bool) -> None:
    """Build all wheels and sdists, SHA256SUMS and the bill of materials. Nothing is uploaded."""
    wrong = [*faults(), *(() if dirty else _uncommitted())]
    if out.exists() and any(out.iterdir()):
        wrong.append(f"{out} is not empty")
    if wrong:
        raise click.ClickException("\n".join(wrong))
    chosen = packages()
    if dry_run:
        click.echo("\n".join(str(out / name) for name in planned(chosen)))
        return
    for path in build(chosen, out, (day or datetime.now(UTC)).date()):
        click.echo(path)


if __name__ == "__main__":
    cli()
