"""The commands that ask a router: one that runs behind `--url`, or one made for the moment from the configuration.

Both are asked over HTTP, so that a command cannot show anything else than the server does: the router of the moment
listens on a socket in a private folder, which nobody else can open.

Whatever brings aiohttp, plugins or the store is imported where it is used: `routerpool --help` must be instant.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import update_wrapper
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, TypeVar

import click
from attrs import evolve, frozen

from routerpool.errors import RouterpoolError
from routerpool.terminal import tables

if TYPE_CHECKING:
    import aiohttp

    from routerpool.router import Router

__all__ = [
    "COMMANDS",
    "ClientError",
    "Connection",
    "Target",
    "config_options",
    "connected",
    "events",
    "json_option",
    "show",
    "target_options",
]

F = TypeVar("F", bound=Callable[..., Any])

PRIVACY = ("public", "private", "sensitive", "secret")
CONNECT_SECONDS = 5.0


class ClientError(RouterpoolError):
    """What a router said no to, or why it could not be asked."""


@frozen(kw_only=True)
class Target:
    """Which router a command means: the one at `url`, else that of a configuration."""

    config: Path | None = None
    env_file: Path | None = None
    url: str | None = None
    base_path: str = ""
    refresh: bool = False
    quiet: bool = False

    def router(self, *, private: bool = False) -> tuple[Router, list[str]]:
        """The configuration's router, not started, and notes on how it came about when there is no file.

        All that is wrong is one ConfigError. `private` makes one that no keys are needed for.
        """
        from routerpool.config.sections import ServerConfig
        from routerpool.router import Router

        router = Router.of(self.config, env_file=self.env_file)
        if private:
            notes = router.notes
            router = Router(evolve(router.config, server=ServerConfig()), list(router.hooks.instances.values()))
            router.notes += notes
            router.lists = self.refresh
        return router, router.notes


# Options


def _merged(context: click.Context, **given: Any) -> Target:
    """The options of a command over those that stand before it (`routerpool --config FILE models`)."""
    above = context.obj if isinstance(context.obj, Target) else Target()
    return evolve(above, **{name: value for name, value in given.items() if value is not None})


def config_options(function: F) -> F:
    """`--config` and `--env-file`; the command gets them as one `target`."""
    return _options(function, ("config", "env_file"))


def target_options(function: F) -> F:
    """`--config`, `--env-file`, `--url` and `--base-path`; the command gets them as one `target`."""
    return _options(function, ("config", "env_file", "url", "base_path"))


def _asking_options(function: F) -> F:
    """The same and `--refresh`, for what asks a router and no provider."""
    return _options(function, ("config", "env_file", "url", "base_path", "refresh"))


OPTIONS: Mapping[str, Callable[[F], F]] = {
    "config": click.option(
        "--config", type=click.Path(path_type=Path, dir_okay=False), help="The configuration file.", metavar="FILE"
    ),
    "env_file": click.option(
        "--env-file",
        type=click.Path(path_type=Path, dir_okay=False),
        help="A file of variables; default is .env beside the configuration.",
        metavar="FILE",
    ),
    "url": click.option(
        "--url",
        help="Ask the server that runs there, with the key in ROUTERPOOL_API_KEY, instead of starting from the "
        "configuration.",
    ),
    "refresh": click.option(
        "--refresh",
        is_flag=True,
        default=None,
        help="Ask the providers for their models first; else what they listed last is used, and its age is told.",
    ),
    "base_path": click.option("--base-path", help="The server's base path, where the URL does not hold it."),
}


def _options(function: F, names: tuple[str, ...]) -> F:
    def command(*args: Any, **kwargs: Any) -> Any:
        given = {name: kwargs.pop(name) for name in names}
        return function(*args, target=_merged(click.get_current_context(), **given), **kwargs)

    wrapped: Any = update_wrapper(command, function)
    for name in reversed(names):
        wrapped = OPTIONS[name](wrapped)
    return wrapped  # type: ignore[no-any-return]  # click's decorators return what they got


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
"""`--json`; the command gets it as `as_json`."""


def show(document: Any, as_json: bool, render: Callable[[Any], Iterable[str]]) -> None:
    """Print a document as JSON or as text."""
    if as_json:
        click.echo(json.dumps(document, indent=2, ensure_ascii=False, default=str))
    else:
        for line in render(document):
            click.echo(line)


# Asking


@frozen
class Connection:
    """A way to a router that runs."""

    session: aiohttp.ClientSession
    base: str
    headers: Mapping[str, str]

    async def get(self, path: str) -> Any:
        """The JSON document at this path."""
        return await self._asked("GET", path, None)

    async def post(self, path: str, body: Any) -> Any:
        """The JSON answer to this body."""
        return await self._asked("POST", path, body)

    async def _asked(self, method: str, path: str, body: Any) -> Any:
        async with self.open(method, path, body) as response:
            return await _document(response, self.base)

    @asynccontextmanager
    async def open(self, method: str, path: str, body: Any = None) -> AsyncIterator[aiohttp.ClientResponse]:
        """The answer to a request, whatever its status; a ClientError when nobody answers."""
        import aiohttp

        try:
            async with self.session.request(
                method, self.base + path, json=body, headers=self.headers, allow_redirects=False
            ) as response:
                yield response
        except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError) as error:
            raise ClientError(f"{self.base} is no address; write it as http://127.0.0.1:4545") from error
        except aiohttp.ClientConnectorCertificateError as error:
            cure = "set SSL_CERT_FILE to a file with it, or with whoever signed it"
            raise ClientError(f"the certificate of {self.base} is not trusted here; {cure}") from error
        except aiohttp.ClientConnectorSSLError as error:
            raise ClientError(f"{self.base} does not speak HTTPS; write it as http://…") from error
        except (aiohttp.ClientConnectorError, TimeoutError) as error:
            cure = "start one with `routerpool serve`, or leave --url out"
            raise ClientError(f"no server answers at {self.base}; {cure}") from error
        except aiohttp.ClientError as error:
            raise ClientError(f"{self.base} broke off: {type(error).__name__}") from error


async def _document(response: aiohttp.ClientResponse, base: str) -> Any:
    raw = await response.read()
    try:
        document = json.loads(raw)
    except ValueError:
        document = None
    if response.status < 400 and document is not None:
        return document
    error = document.get("error") if isinstance(document, dict) else None
    if not isinstance(error, dict):
        raise ClientError(f"{base} answered {response.status} and is no routerpool; check --url and --base-path")
    raise _refusal(error)


def _refusal(error: Mapping[str, Any]) -> ClientError:
    code = error.get("code")
    cure = "; put one into ROUTERPOOL_API_KEY" if code in ("missing_api_key", "invalid_api_key", "admin_only") else ""
    cure = "; say so by --url or --base-path" if "path" in error else cure
    return ClientError(tables.printable(f"{code or 'error'}: {error.get('message')}{cure}"))


@asynccontextmanager
async def connected(target: Target) -> AsyncIterator[Connection]:
    """A connection to the router that a command means; one made for the moment ends with it."""
    import aiohttp

    from routerpool.planning.rosters import told

    timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS)
    if target.url is not None:
        key = os.environ.get("ROUTERPOOL_API_KEY")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        parts = (target.url.rstrip("/"), target.base_path.strip("/"))
        base = "/".join(part for part in parts if part).removesuffix("/v1")
        async with aiohttp.ClientSession(timeout=timeout) as session:
            yield Connection(session, base, headers)
        return
    router, notes = target.router(private=True)
    if notes:
        click.echo(tables.printable("routerpool: no configuration file; " + "; ".join(notes)), err=True)
    if router.config.path is not None and target.config is None and not target.quiet:
        click.echo(tables.printable(f"routerpool: the configuration is {router.config.path}"), err=True)
    async with (
        _momentary(router) as (connector, base),
        aiohttp.ClientSession(timeout=timeout, connector=connector) as session,
    ):
        if not target.refresh and (age := told(router.rosters.ages, router.rosters.unlisted())):
            click.echo(tables.printable(f"routerpool: {age}"), err=True)
        yield Connection(session, base, {})


@asynccontextmanager
async def _momentary(router: Router) -> AsyncIterator[tuple[aiohttp.BaseConnector | None, str]]:
    """Serve a router on a socket that only this user can open; on loopback where the platform has no such sockets."""
    import aiohttp
    from aiohttp import web

    from routerpool.server.app import create_app

    async with AsyncExitStack() as stack:
        runner = web.AppRunner(create_app(router), access_log=None, handle_signals=False, shutdown_timeout=1.0)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        if sys.platform == "win32":
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            yield None, f"http://127.0.0.1:{runner.addresses[0][1]}"
            return
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="routerpool-"))
        path = str(Path(folder) / "http")
        await web.UnixSite(runner, path).start()
        yield aiohttp.UnixConnector(path), "http://localhost"


def _sending(target: Target) -> AbstractAsyncContextManager[Connection]:
    """A connection for what is sent to a provider anyway, who then may be asked for its models, too."""
    return connected(evolve(target, refresh=True, quiet=True))


def _ask(coroutine: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(coroutine)


async def _fetched(target: Target, path: str, body: Any = None) -> Any:
    async with connected(target) as connection:
        return await (connection.get(path) if body is None else connection.post(path, body))


# The commands


@click.command("models")
@_asking_options
@json_option
def models_command(target: Target, as_json: bool) -> None:
    """List every candidate: provider and model."""
    show(_ask(_fetched(target, "/v1/router/models")), as_json, tables.models)


@click.command("profiles")
@_asking_options
@json_option
def profiles_command(target: Target, as_json: bool) -> None:
    """List the ways to choose; `*` marks the default."""
    show(_ask(_fetched(target, "/v1/router/profiles")), as_json, tables.profiles)


@click.command("status")
@_asking_options
@json_option
def status_command(target: Target, as_json: bool) -> None:
    """Show how things stand; with --url in the server that runs there."""
    show(_ask(_fetched(target, "/v1/router/status")), as_json, tables.status)


@click.command("explain")
@click.argument("prompt", required=False)
@click.option("--model", help="A profile, a candidate or an alias; without it, auto.")
@click.option("--privacy", type=click.Choice(PRIVACY), help="How far the request may travel.")
@click.option("--profile", help="The profile to choose by.")
@click.option("--file", "file", type=click.File("rb"), help="A whole request body as JSON; `-` reads it from stdin.")
@_asking_options
@json_option
def explain_command(
    prompt: str | None,
    model: str | None,
    privacy: str | None,
    profile: str | None,
    file: Any,
    target: Target,
    as_json: bool,
) -> None:
    """Show who would answer a PROMPT, who would not, and why. Nothing is sent to any provider."""
    if (prompt is None) == (file is None):
        raise click.UsageError("give either a PROMPT or --file")
    body = _body(prompt) if prompt is not None else _read_body(file)
    show(
        _ask(_fetched(target, "/v1/router/explain", _hinted(body, model, privacy, profile))),
        as_json,
        tables.explained,
    )


def _body(prompt: str, system: str | None = None) -> dict[str, Any]:
    text = sys.stdin.read() if prompt == "-" else prompt
    messages = [{"role": "system", "content": system}] if system else []
    return {"messages": [*messages, {"role": "user", "content": text}]}


def _read_body(file: Any) -> dict[str, Any]:
    try:
        body = json.loads(file.read())
    except ValueError as error:
        raise click.BadParameter(f"no JSON: {error}", param_hint="--file") from error
    if not isinstance(body, dict):
        raise click.BadParameter("expected a JSON object, as a client would send it", param_hint="--file")
    return body


def _hinted(body: dict[str, Any], model: str | None, privacy: str | None, profile: str | None) -> dict[str, Any]:
    hints = {name: value for name, value in (("privacy", privacy), ("profile", profile)) if value}
    if model:
        body["model"] = model
    if hints:
        body["router"] = {**(body.get("router") or {}), **hints}
    return body


@click.command("run")
@click.argument("prompt")
@click.option("--model", help="A profile, a candidate or an alias; without it, auto.")
@click.option("--privacy", type=click.Choice(PRIVACY), help="How far the request may travel.")
@click.option("--profile", help="The profile to choose by.")
@click.option("--system", help="A system message before the prompt.")
@target_options
@json_option
def run_command(
    prompt: str,
    model: str | None,
    privacy: str | None,
    profile: str | None,
    system: str | None,
    target: Target,
    as_json: bool,
) -> None:
    """Send a PROMPT (`-` reads it from stdin) and show the answer as it comes; who answered goes to stderr."""
    body = _hinted(_body(prompt, system), model, privacy, profile)
    _ask(_answer(target, body) if as_json else _stream(target, body))


async def _answer(target: Target, body: dict[str, Any]) -> None:
    async with _sending(target) as connection, connection.open("POST", "/v1/chat/completions", body) as response:
        answer = await _document(response, connection.base)
        routed = {name: value for name, value in response.headers.items() if name.startswith("X-Router-")}
    show({"answer": answer, "routed": routed}, True, tuple)


async def _stream(target: Target, body: dict[str, Any]) -> None:
    body |= {"stream": True, "stream_options": {"include_usage": True}}
    started = perf_counter()
    tokens = None
    async with _sending(target) as connection, connection.open("POST", "/v1/chat/completions", body) as response:
        if response.status >= 400 or "event-stream" not in response.content_type:
            await _document(response, connection.base)
            raise ClientError("the answer is no stream")
        async for event in events(response):
            tokens = event.get("usage") or tokens
            for choice in event.get("choices") or ():
                text = (choice.get("delta") or {}).get("content")
                if text:
                    click.echo(tables.printable(text) if sys.stdout.isatty() else text, nl=False)
        click.echo()
        seconds = f"{perf_counter() - started:.1f} s"
        click.echo(f"— {tables.tried(response.headers)} · {tables.usage(tokens)} · {seconds}", err=True)


async def events(response: aiohttp.ClientResponse) -> AsyncIterator[dict[str, Any]]:
    """The parsed events of a chat stream; a ClientError for an error event, or an end that is none."""
    from routerpool.wire.sse import Cutter, event_data, split_events

    cutter = Cutter()
    async for block in response.content.iter_any():
        for raw in split_events(cutter.feed(block)):
            data = event_data(raw)
            if data == b"[DONE]":
                return
            if data is not None:
                event = json.loads(data)
                if isinstance(event.get("error"), dict):
                    click.echo()
                    raise _refusal(event["error"])
                yield event
    click.echo()
    raise ClientError("the answer broke off before its end")


COMMANDS = (run_command, models_command, status_command, explain_command, profiles_command)
"""The commands of this module, for the command line to add."""
