"""`routerpool scan`: files held against all scanners that are on, for people, for scripts and for code review."""

from __future__ import annotations

import codecs
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from attrs import evolve, field, frozen

from routerpool import Finding, RouterpoolError, __version__
from routerpool.cli import config_options, json_option, printable

if TYPE_CHECKING:
    from routerpool import Router
    from routerpool.cli import Target

__all__ = ["scan_command"]

FOUND, BROKEN = 1, 2
"""The exit codes: something was found; a file could not be read, or nothing could be scanned at all."""

STDIN = "-"

MARKS: Sequence[tuple[bytes, str]] = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
"""How a file begins that says what it is written in; all others are UTF-8, and what is none becomes `\ufffd`."""


@frozen
class Scan:
    """What was found in some files; `errors` says by name which could not be scanned, and why."""

    found: Mapping[str, Sequence[Finding]] = field(factory=dict)
    errors: Mapping[str, str] = field(factory=dict)

    @property
    def findings(self) -> Iterator[tuple[str, Finding]]:
        """Every finding with its file."""
        return ((name, finding) for name, findings in self.found.items() for finding in findings)


@click.command("scan")
@click.argument("files", nargs=-1, required=True, metavar="FILE…|-")
@click.option(
    "--format",
    "form",
    type=click.Choice(("text", "json", "sarif")),
    default="text",
    show_default=True,
    help="How it is told.",
)
@json_option
@config_options
@click.pass_context
def scan_command(ctx: click.Context, files: tuple[str, ...], form: str, as_json: bool, target: Target) -> None:
    """Look for secrets in FILEs (`-` reads stdin) with the scanners that are on; nothing is sent anywhere.

    What is found is told by rule, line and column, never as it stands. Exit code 1 if anything is found, 2 if a file
    cannot be read or nothing scans.
    """
    import asyncio

    try:
        scan = asyncio.run(_scanned(_scanners(target), files))
    except RouterpoolError as error:
        click.echo(f"routerpool: {printable(str(error))}", err=True)
        ctx.exit(BROKEN)
    for line in FORMS["json" if as_json else form](scan):
        click.echo(line)
    for name, reason in scan.errors.items():
        click.echo(f"routerpool: {printable(name)}: {printable(reason)}", err=True)
    if scan.errors:
        ctx.exit(BROKEN)
    if any(scan.findings):
        ctx.exit(FOUND)


def _scanners(target: Target) -> Router:
    """A router of nothing but the configuration's plugins that classify: it asks no provider, and opens no store."""
    from routerpool import Router
    from routerpool_policy import Policy

    whole, _ = target.router()
    impls = whole.hooks.impls
    classify = {impl.instance.name: impl.instance for impl in impls["classify"]}
    for impl in impls["register_providers"]:
        classify.pop(impl.instance.name, None)
    if all(isinstance(instance.plugin, Policy) and not instance.plugin.looks for instance in classify.values()):
        raise RouterpoolError("no plugin that scans is on; put `secrets: {}` under `plugins:`")
    return Router(evolve(whole.config, store="sqlite://"), list(classify.values()))


async def _scanned(router: Router, files: Sequence[str]) -> Scan:
    from routerpool_policy.verdict import found_in

    found: dict[str, Sequence[Finding]] = {}
    errors: dict[str, str] = {}
    async with router:
        for name in dict.fromkeys(files):
            try:
                found[name] = await found_in(router, _read(name))
            except OSError as error:
                errors[name] = error.strerror or type(error).__name__
            except RouterpoolError as error:
                errors[name] = str(error)
    return Scan(found, errors)


def _read(name: str) -> str:
    data = sys.stdin.buffer.read() if name == STDIN else Path(name).read_bytes()
    encoding = next((encoding for mark, encoding in MARKS if data.startswith(mark)), "utf-8")
    return data.decode(encoding, "replace")


# How it is told


def _text(scan: Scan) -> Iterator[str]:
    for name, finding in scan.findings:
        yield printable(f"{name}:{finding.line}:{finding.column}: {finding.rule}: {finding.redacted}")


def _json(scan: Scan) -> Iterator[str]:
    findings = [
        {
            "file": name,
            "line": finding.line,
            "column": finding.column,
            "rule": finding.rule,
            "redacted": finding.redacted,
        }
        for name, finding in scan.findings
    ]
    errors = [{"file": name, "error": error} for name, error in scan.errors.items()]
    yield _dumped({"files": len(scan.found), "findings": findings, "errors": errors})


def _sarif(scan: Scan) -> Iterator[str]:
    """SARIF 2.1.0, which code hosts show beside the lines."""
    rules = sorted({finding.rule for _, finding in scan.findings})
    run = {
        "tool": {"driver": {"name": "routerpool scan", "version": __version__, "rules": [{"id": r} for r in rules]}},
        "columnKind": "unicodeCodePoints",
        "invocations": [
            {
                "executionSuccessful": not scan.errors,
                "toolExecutionNotifications": [
                    {"level": "error", "message": {"text": f"{name}: {error}"}} for name, error in scan.errors.items()
                ],
            }
        ],
        "results": [_result(name, finding, rules) for name, finding in scan.findings],
    }
    schema = "https://json.schemastore.org/sarif-2.1.0.json"
    yield _dumped({"$schema": schema, "version": "2.1.0", "runs": [run]})


def _result(name: str, finding: Finding, rules: Sequence[str]) -> Mapping[str, Any]:
    place = {"startLine": finding.line, "startColumn": finding.column}
    path = "stdin" if name == STDIN else Path(name)
    uri = (
        path if isinstance(path, str) else path.as_uri() if path.is_absolute() else path.as_posix().replace(" ", "%20")
    )
    return {
        "ruleId": finding.rule,
        "ruleIndex": rules.index(finding.rule),
        "level": "error",
        "message": {"text": f"{finding.rule}: {finding.redacted}"},
        "locations": [{"physicalLocation": {"artifactLocation": {"uri": uri}, "region": place}}],
    }


def _dumped(document: Any) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False)


FORMS: Mapping[str, Callable[[Scan], Iterable[str]]] = {"text": _text, "json": _json, "sarif": _sarif}
