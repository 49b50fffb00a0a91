"""What `routerpool plugins doctor NAME` finds out: everything that stands between a plugin and its users.

The plugin is imported and made, in this process and whether or not a configuration names it; it is not opened.
"""

from __future__ import annotations

import inspect
import json
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import Distribution
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import attrs
import pluggy

from routerpool import hookspecs
from routerpool.authoring.rehearsal import rehearse
from routerpool.config.reading import schema
from routerpool.config.sections import NAME, Config, PluginEntry
from routerpool.config.structure import converter, keys_of
from routerpool.document import Problems
from routerpool.errors import PluginError, nearest
from routerpool.hooks.calling import HOOKS, Hooks
from routerpool.hooks.compatibility import Leaving, supported
from routerpool.hooks.loading import ALWAYS, Installed, Instance, make, offers
from routerpool.hookspecs import PROJECT
from routerpool.privacy.scanning import TextScanner
from routerpool.types import Level, Report
from routerpool.wire.hints import hint_readers

__all__ = ["examine_plugin", "faults_of"]

SWITCHES: Final = ("use", "enabled", "required")
"""The keys of every plugin's section that are the core's."""

AT_START: Final = ("register_providers", "register_routes", "register_commands")


def examine_plugin(name: str, config: Config | None = None) -> list[Report]:
    """All that is wrong with the installed plugin of this name, and what is right; gravest first.

    `config` is a configuration that may name it. A PluginError tells that no plugin is called so.
    """
    known = list(offers())
    found = [offer for offer in known if offer.name == name]
    if not found:
        raise _unknown(name, known)
    reports = [*_clash(found), *_published(found[0])]
    try:
        plugin = found[0].load()
    except PluginError as error:
        reports.append(_error(str(error), "mend the class, or install the release that it is for"))
    except (Exception, SystemExit) as error:
        told = f"{found[0].distribution} {found[0].version} fails to import: {type(error).__name__}: {error}"
        reports.append(_error(told, f"`python -c 'import {found[0].entry_point.module}'` shows where"))
    else:
        reports += [*faults_of(plugin), *_always(found[0], plugin)]
        if not _broken(reports):
            reports += _at_work(found[0], config, {offer.name: offer for offer in known})
    told = f"{name} of {found[0].distribution} {found[0].version}"
    if not _broken(reports, Level.WARNING):
        reports.append(Report(level=Level.OK, text=f"{told}: nothing is missing", subject=name))
    return sorted((attrs.evolve(report, subject=name) for report in reports), key=lambda report: -report.level)


def _unknown(name: str, known: Sequence[Installed]) -> PluginError:
    others = sorted({offer.name for offer in known})
    hint = nearest(name, others) or (f"; installed: {', '.join(others)}." if others else "; none is installed.")
    return PluginError(
        f"no installed distribution offers a plugin called {name!r}{hint} If yours is installed, its pyproject.toml "
        f'lacks the entry point: [project.entry-points.{PROJECT}] {name} = "module:Class"'
    )


def _error(text: str, cure: str) -> Report:
    return Report(level=Level.ERROR, text=text, cure=cure)


def _warning(text: str, cure: str) -> Report:
    return Report(level=Level.WARNING, text=text, cure=cure)


def _note(text: str, cure: str) -> Report:
    return Report(level=Level.NOTE, text=text, cure=cure)


def _broken(reports: Sequence[Report], level: Level = Level.ERROR) -> bool:
    return any(report.level >= level for report in reports)


def _clash(found: Sequence[Installed]) -> Iterator[Report]:
    if len(found) > 1:
        who = " and ".join(f"{offer.distribution} {offer.version}" for offer in found)
        yield _error(f"{who} all offer a plugin called {found[0].name!r}", "rename one of them, or uninstall it")
    if wrong := NAME.check(found[0].name):
        yield _error(f"{found[0].name!r} cannot stand in YAML: {wrong}", "rename the entry point")


# What others read before they install it


def _published(offer: Installed) -> Iterator[Report]:
    distribution = offer.entry_point.dist
    if distribution is None:
        return
    said = distribution.metadata
    told: Mapping[str, Any] = said.json
    licensed = any(str(c).startswith("License ::") for c in told.get("classifier", ()))
    if not told.get("summary"):
        yield _warning(
            "it has no summary, which lists of plugins show", 'write `description = "…"` into pyproject.toml'
        )
    if not (licensed or told.get("license_expression") or told.get("license")):
        yield _warning("it has no licence, so nobody may use it", 'write `license = "MIT"`, or what you like')
    if not (told.get("description") or said.get_payload()):  # type: ignore[attr-defined]  # metadata is a message
        yield _warning("it has no README", 'write one, and `readme = "README.md"` into pyproject.toml')
    if not any(_names_us(line) for line in distribution.requires or ()):
        yield _warning("it does not depend on routerpool", f'write `dependencies = ["routerpool{supported()}"]`')
    source = _source(distribution)
    if source is not None and not any(source.glob("test*/**/test_*.py")):
        yield _warning("it has no tests", "write `tests/`, on the contracts of routerpool.testing")


def _names_us(requirement: str) -> bool:
    from packaging.requirements import Requirement  # here, since only this command needs it

    return Requirement(requirement).name.lower() == PROJECT


def _source(distribution: Distribution) -> Path | None:
    """The folder that the distribution is installed from, where it is one of this machine."""
    text = distribution.read_text("direct_url.json")
    parts = urlsplit(json.loads(text).get("url", "")) if text else None
    if parts is None or parts.scheme != "file":
        return None
    folder = Path(unquote(parts.path))
    return folder if folder.is_dir() else None


# What the class says


def faults_of(plugin: type) -> list[Report]:
    """What is wrong with a plugin class as it stands, without making one."""
    return [*_promises(plugin), *_options(plugin), *_declared(plugin), *_hooks(plugin), *_scanner(plugin)]


def _promises(plugin: type) -> Iterator[Report]:
    if getattr(plugin, "requires_core", None) is None:
        yield _note(
            "it does not say which routerpool it is for", f'write `requires_core = "{supported()}"` in the class'
        )


def _always(offer: Installed, plugin: type) -> Iterator[Report]:
    """Whether commands that are to be there in any case can be."""
    if not getattr(plugin, ALWAYS, False):
        return
    if not hasattr(getattr(plugin, "register_commands", None), f"{PROJECT}_impl"):
        yield _warning(f"it says {ALWAYS} and registers no command", "answer register_commands, or take the line away")
    elif not offer.declares(ALWAYS):
        where = f"{offer.entry_point.module} does not hold the line, which is looked for without importing anything"
        yield _warning(f"it says {ALWAYS}, and nobody hears it: {where}", "write it in the class of the entry point")
    elif not make([PluginEntry(name=offer.name, use=offer.name)], Problems(), {offer.name: offer}):
        text = f"it says {ALWAYS}, and cannot be made without options"
        yield _warning(text, "give every option of its Config a default")


def _options(plugin: type) -> Iterator[Report]:
    for name in ("Config", "ProfileConfig"):
        cls = getattr(plugin, name, None)
        if cls is not None:
            yield from _section(name, cls)


def _section(name: str, cls: Any) -> Iterator[Report]:
    if not (isinstance(cls, type) and attrs.has(cls)):
        yield _error(f"its {name} is no attrs class", "write `@frozen(kw_only=True)` of attrs above it")
        return
    try:
        keys = keys_of(cls)
        converter.get_structure_hook(cls)
        schema(plugins={"plugin": cls})
    except TypeError as error:
        yield _error(f"its {name} cannot be read: {error}", "use types that YAML can hold, imported where it runs")
        return
    if name == "Config":
        for key in sorted(keys.keys() & set(SWITCHES)):
            yield _error(f"its option {key!r} is a key of every plugin, so it never arrives", "give it another name")
    else:
        wanting = [key for key, (attribute, _) in keys.items() if attribute.default is attrs.NOTHING]
        if wanting:
            text = f"its {name} wants {', '.join(wanting)}, and most profiles say nothing"
            yield _error(text, "give every field of it a default")
    helpless = [key for key, (attribute, _) in keys.items() if not attribute.metadata.get("help")]
    if helpless:
        cure = 'write `field(…, metadata={"help": "…"})`'
        yield _note(f"no help text, so nobody can explain it: {', '.join(helpless)}", cure)


def _declared(plugin: type) -> Iterator[Report]:
    """Whether what the class says of itself can be heard."""
    try:
        hint_readers(getattr(plugin, "hints", {}))
    except (TypeError, ValueError, AttributeError) as error:
        yield _error(f"its hints cannot be read: {error}", 'write such as `hints = {"terse": bool}`')
    weight = getattr(plugin, "weight", 1.0)
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < math.inf:
        yield _error(f"it says weight = {weight!r}", "write a number of 0 or more")
    for name in ("default", "last_resort"):
        place = getattr(plugin, name, None)
        if place is not None and type(place) is not int:
            yield _error(f"it says {name} = {place!r}", f"write a whole number, its place, such as `{name} = 40`")


def _hooks(plugin: type) -> Iterator[Report]:
    count = 0
    for attribute in dir(plugin):
        function = getattr(plugin, attribute, None)
        options = getattr(function, f"{PROJECT}_impl", None)
        if options is not None:
            count += 1
            yield from _hook(attribute, function, options)
        elif attribute in HOOKS and _looks_like_a_hook(attribute, function):
            yield _warning(
                f"{attribute} has a hook's name and no @hookimpl, so it is never called", "mark it, or rename it"
            )
    if not count:
        yield _error("it has no hook, so it does nothing", f"mark a method with @hookimpl: {', '.join(HOOKS)}")


def _looks_like_a_hook(name: str, function: Any) -> bool:
    if not inspect.isfunction(function) or function.__module__.partition(".")[0] == PROJECT:
        return False
    return set(_arguments(function)) <= set(_arguments(getattr(hookspecs, name)))


def _arguments(function: Callable[..., Any]) -> list[str]:
    return [name for name in inspect.signature(function).parameters if name != "self"]


def _hook(attribute: str, function: Any, options: Mapping[str, Any]) -> Iterator[Report]:
    hook = str(options.get("specname") or attribute)
    if hook not in HOOKS:
        cure = f"the hooks are {', '.join(HOOKS)}{nearest(hook, HOOKS)}"
        yield _error(_pluggy(attribute, function) or f"unknown hook {hook!r}", cure)
        return
    with warnings.catch_warnings(record=True) as leaving:
        warnings.simplefilter("always")
        refused = _pluggy(attribute, function)
    if refused:
        allowed = _arguments(getattr(hookspecs, hook))
        wrong = [name for name in _arguments(function) if name not in allowed]
        cure = f"{hook} may take {', '.join(allowed) or 'no argument'}"
        yield _error(refused, cure + "".join(nearest(name, allowed) for name in wrong))
    for warning in leaving:
        if isinstance(warning.message, Leaving):
            yield _warning(str(warning.message), warning.message.cure)
    if options.get("wrapper") or options.get("hookwrapper"):
        yield _error(
            f"{hook} is a wrapper, and those are called as if they were none", "hook in before or behind instead"
        )
    yield from _form(hook, function)


def _pluggy(name: str, function: Any) -> str | None:
    """What pluggy says against this one hook, on one line."""
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(hookspecs)
    try:
        manager.register(type("Plugin", (), {name: function})(), name="it")
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        return " ".join(str(error).split())
    return None


def _form(hook: str, function: Any) -> Iterator[Report]:
    """Whether it is called in the way that it is written."""
    coroutine, stream = inspect.iscoroutinefunction(function), inspect.isasyncgenfunction(function)
    if hook == "lifespan":
        if coroutine or inspect.isgeneratorfunction(function):
            yield _error("lifespan is no async generator", "write `async def lifespan(self, router):` with one `yield`")
    elif hook in AT_START and (coroutine or stream):
        yield _error(f"{hook} is async, and nobody awaits it at the start", "write it as `def`")
    elif stream and hook != "detect":
        yield _error(
            f"{hook} is an async generator, which nobody iterates", "collect what it yields, and return a list"
        )


def _scanner(plugin: type) -> Iterator[Report]:
    classify = getattr(plugin, "classify", None)
    names = getattr(getattr(classify, "__code__", None), "co_names", ())
    if not getattr(plugin, "required", False) and (issubclass(plugin, TextScanner) or "raised" in names):
        text = "it raises privacy classes and is not `required`, so a request goes out unseen when it fails"
        yield _warning(text, "write `required = True` in the class")


# At work


def _at_work(offer: Installed, config: Config | None, known: Mapping[str, Installed]) -> Iterator[Report]:
    entries = [entry for entry in (config.plugins if config else ()) if entry.use == offer.name and entry.enabled]
    if not entries:
        yield _note("no configuration here switches it on", f"write `{offer.name}: {{}}` under `plugins:`")
    problems = Problems()
    made = make(entries or [PluginEntry(name=offer.name, use=offer.name)], problems, {offer.name: offer})
    for problem in problems:
        if entries:
            yield _error(f"{problem.path}: {problem.message}", "mend the configuration, or the plugin's Config")
        else:
            yield _note(f"without options it cannot be made: {problem.message}", "name it in a configuration with some")
    for instance in made:
        yield from _providers(instance, known)
        yield from rehearse(instance)


def _providers(instance: Instance, known: Mapping[str, Installed]) -> Iterator[Report]:
    """Whether it brings providers under names that are others'."""
    try:
        brought = [getattr(item, "name", None) for _, item in Hooks.of([instance]).gather("register_providers")]
    except PluginError as error:
        yield _error(str(error), "answer with a list of providers")
        return
    for name in brought:
        other = known.get(str(name))
        if not isinstance(name, str):
            yield _error("it registers something that is no provider", "answer with objects that have a `name`, …")
        elif other is not None and name not in (instance.name, instance.use):
            text = f"it brings a provider called {name!r}, and so does {other.distribution} {other.version}"
            yield _error(text, "name the provider after the instance, which the plugin gets as `name`")
