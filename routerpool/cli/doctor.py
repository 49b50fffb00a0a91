"""What `routerpool doctor` finds out: the configuration, every plugin's own check, and who can be reached.

Without `network` only loopback is asked and no plugin is opened, so that a look costs nothing and changes nothing.
With it, every provider that has its key is asked for its list of models, which uses no quota of tokens.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from time import perf_counter

import aiohttp
from attrs import evolve
from yarl import URL

from routerpool.cli.client import ClientError, Target, connected
from routerpool.cli.preflight import left_off, preflight
from routerpool.config.sections import ServerConfig
from routerpool.http.access import is_loopback
from routerpool.overview import unprotected
from routerpool.protocols import Provider
from routerpool.providers.failures import failure_of_exception
from routerpool.providers.openai import OpenAIProvider
from routerpool.router import Router
from routerpool.types import Level, Model, Report

__all__ = ["examine"]

REACH_SECONDS = 5.0
REFUSED = (401, 403)


async def examine(router: Router, *, network: bool = False, target: Target | None = None) -> list[Report]:
    """All findings about this router, which is not started yet; it is closed again before this returns.

    `target` is the server that runs, else where this one's would, to tell what has been switched off there.
    """
    reports = [_origin(router), *await preflight(router)]
    if target is not None:
        reports += await _running(target if target.url else evolve(target, url=_address(router.config.server)))
    providers = [provider for provider in router.providers.values() if isinstance(provider, OpenAIProvider)]
    asked = [provider for provider in providers if _may_be_asked(provider, network)]
    if network:
        async with router:
            reached = await asyncio.gather(*(_reach(router, provider, router.session) for provider in asked))
            reports += await router.check(network=True)
    else:
        timeout = aiohttp.ClientTimeout(total=REACH_SECONDS)
        async with aiohttp.ClientSession(timeout=timeout, trust_env=False) as session:
            reached = await asyncio.gather(*(_reach(router, provider, session) for provider in asked))
        reports += await router.check(network=False)
        await router.store.close()
    reports += [_off(line) for line in left_off(router.config)]
    told = set(router.catalog.silent) | {
        name for name, provider in router.providers.items() if _checks_itself(provider)
    }
    return [*reports, *(r for r in reached if r.level is not Level.WARNING or r.subject not in told)]


def _off(line: str) -> Report:
    text, _, cure = line.partition(": ")
    return Report(level=Level.NOTE, text=text, cure=cure, subject="plugins")


def _address(server: ServerConfig) -> str:
    """Where the server of a configuration answers on this machine, if it runs."""
    host = server.host if is_loopback(server.host) else "127.0.0.1"
    scheme = "https" if server.tls else "http"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{server.port}{server.base_path}"


async def _running(target: Target) -> list[Report]:
    """What the running server lacks, where there is one and it lets us look."""
    with suppress(ClientError, TimeoutError):
        async with asyncio.timeout(REACH_SECONDS), connected(target) as connection:
            told = await connection.get("/v1/router/status")
            return [unprotected(str(name)) for name in told.get("unprotected", ())]
    return []


def _checks_itself(provider: Provider) -> bool:
    """Whether the plugin tells by itself that nobody answers."""
    return getattr(type(provider), "check", None) is not OpenAIProvider.check


def _origin(router: Router) -> Report:
    path, plugins = router.config.path, len(router.hooks.instances)
    if path is None:
        cure = "run `routerpool init` to write one"
        return Report(level=Level.NOTE, text=f"no configuration file; {plugins} plugins by default", cure=cure)
    return Report(level=Level.OK, text=f"{path}: no mistakes, {plugins} plugins", subject="config")


def _may_be_asked(provider: OpenAIProvider, network: bool) -> bool:
    if provider.idle() is not None:
        return False
    host = URL(provider.base_url or "").host or ""
    return network or is_loopback(host)


async def _listed(provider: OpenAIProvider, session: aiohttp.ClientSession) -> Sequence[Model] | None:
    """The models that a provider says it has; None where only the roster counts, though it was asked all the same."""
    if type(provider).discover is not OpenAIProvider.discover or provider.discovery != "off":
        return await provider.discover(session)
    await provider.listing(session)
    return None


async def _reach(router: Router, provider: OpenAIProvider, session: aiohttp.ClientSession) -> Report:
    """Ask a provider for its models; what it says joins the catalog, as at a start."""
    started = perf_counter()
    name = provider.name
    try:
        async with asyncio.timeout(REACH_SECONDS):
            models = await _listed(provider, session)
        if models is not None:
            router.catalog.replace(name, models)
    except aiohttp.ClientResponseError as error:
        return _answered(provider, error.status)
    except Exception as error:
        text = f"{name} cannot be reached: {failure_of_exception(name, error).message}"
        cure = f"start {name}, or take it out" if provider.local else "look at the network, or take it out"
        return Report(level=Level.WARNING, text=text, cure=cure, subject=name)
    milliseconds = (perf_counter() - started) * 1e3
    count = sum(candidate.provider == name for candidate in router.catalog.snapshot.candidates)
    text = f"{name} answers in {milliseconds:.0f} ms, {count} models"
    return Report(level=Level.OK, text=text, subject=name)


def _answered(provider: OpenAIProvider, status: int) -> Report:
    name = provider.name
    if status in REFUSED:
        variables = " or ".join(provider.key_variables) or "its key"
        text = f"{name} refuses the key ({status})"
        return Report(level=Level.ERROR, text=text, cure=f"mend {variables}", subject=name)
    if status < 500:
        return Report(level=Level.OK, text=f"{name} answers, but lists no models ({status})", subject=name)
    return Report(level=Level.WARNING, text=f"{name} answers {status}", cure="try again later", subject=name)
