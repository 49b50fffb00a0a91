"""`routerpool demo`: a tour that sends real requests over HTTP to a real router over simulated providers.

Nothing that is shown is written here: headers, answers, plans and cooldowns are read from what the router said. What
brings aiohttp is imported when the tour begins, since `routerpool --help` makes this command.
"""

from __future__ import annotations

import asyncio
import json
import logging
import shlex
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import click
from attrs import define, field

from routerpool import PluginError
from routerpool.cli import events, explained, json_option, printable
from routerpool.hooks import installed

if TYPE_CHECKING:
    import aiohttp

__all__ = ["HOUSE", "demo_command", "tour"]

NEEDED: Final = ("sandbox", "free_first", "breaker")

HOUSE: Final[Mapping[str, Any]] = {
    "plugins": {
        "free_first": {},
        "breaker": {},
        "brook": {"use": "sandbox", "local": False, "fail": "rate_limited", "models": ["brook-large"]},
        "cedar": {"use": "sandbox", "local": False, "models": ["cedar-large"]},
        "home": {"use": "sandbox", "local": True, "models": ["home-small"]},
    },
    "profiles": {
        "tour": {
            "description": "an explicit order, so that the broken one is asked first",
            "models": ["brook/*", "cedar/*", "home/*"],
            "weights": {"free_first": 1},
        }
    },
}
"""Two providers that pretend to be remote, one of them always rate limited, and one that pretends to be local."""

CHAT: Final = "/v1/chat/completions"


@define
class Tour:
    """One walk: where the router listens, and what has been shown so far."""

    base: str
    session: aiohttp.ClientSession
    quiet: bool = False
    shown: list[dict[str, Any]] = field(factory=list)

    def begin(self, title: str, *lines: str) -> None:
        """Open a step with what it is about."""
        self.shown.append({"title": title, "requests": []})
        self.say("")
        self.say(click.style(f"{len(self.shown)}. {title}", bold=True))
        for line in lines:
            self.say(f"   {line}")

    def say(self, text: str = "") -> None:
        """Print a line, unless JSON is asked for."""
        if not self.quiet:
            click.echo(text)

    async def ask(self, path: str, body: dict[str, Any] | None = None, *, quietly: bool = False) -> Any:
        """Send a request, show it as the curl command that does the same, and what came back; its JSON."""
        if not quietly:
            self._command(path, body)
        async with self.session.request("POST" if body else "GET", self.base + path, json=body) as response:
            answer = await response.json()
            self._remember(path, body, response, answer)
            if not quietly and path == CHAT:
                self._headers(response)
        return answer

    async def watch(self, body: dict[str, Any]) -> None:
        """Send a request for a stream, and show its words as they come."""
        self._command(CHAT, body)
        words, count = "", 0
        async with self.session.post(self.base + CHAT, json=body) as response:
            self._headers(response)
            if not self.quiet:
                click.echo("   ", nl=False)
            async for event in events(response):
                for choice in event.get("choices") or ():
                    word = choice["delta"].get("content") or ""
                    count += bool(word)
                    words += word
                    if not self.quiet:
                        click.echo(printable(word), nl=False)
            self.say()
            self._remember(CHAT, body, response, {"text": words, "events": count})
        self.say(f"   … in {count} events, each passed on as it came.")

    def _command(self, path: str, body: dict[str, Any] | None) -> None:
        data = (
            f" -H 'Content-Type: application/json' -d {shlex.quote(json.dumps(body, ensure_ascii=False))}"
            if body
            else ""
        )
        self.say(click.style(f"   $ curl -i {self.base}{path}{data}", dim=True))

    def _headers(self, response: aiohttp.ClientResponse) -> None:
        self.say(f"   {response.status} {response.reason}")
        for name, value in response.headers.items():
            if name.startswith("X-Router-"):
                self.say(printable(f"   {name}: {value}"))

    def _remember(self, path: str, body: Any, response: aiohttp.ClientResponse, answer: Any) -> None:
        headers = {name: value for name, value in response.headers.items() if name.startswith("X-Router-")}
        request = {"path": path, "body": body, "status": response.status, "headers": headers, "answer": answer}
        self.shown[-1]["requests"].append(request)

    def told(self) -> dict[str, str]:
        """The router's headers of the last answer."""
        headers: dict[str, str] = self.shown[-1]["requests"][-1]["headers"]
        return headers

    def lines(self, rows: Iterable[str]) -> None:
        """Print a document of the router's as the commands do."""
        for row in rows:
            self.say(f"   {row}")


def _chat(text: str, **more: Any) -> dict[str, Any]:
    return {"model": "auto", "messages": [{"role": "user", "content": text}], **more}


def _text(answer: Mapping[str, Any]) -> str:
    choices = answer.get("choices") or [{}]
    return printable(str((choices[0].get("message") or {}).get("content") or answer.get("error")))


async def _plain(tour: Tour) -> None:
    tour.begin(
        "A plain answer",
        "Any OpenAI client can ask. The model `auto` leaves the choice to the router,",
        "and the headers of the answer tell who it was.",
    )
    answer = await tour.ask(CHAT, _chat("Hello! Who are you?"))
    tour.say(f"   {_text(answer)}")


async def _fallback(tour: Tour) -> None:
    tour.begin(
        "A provider that breaks",
        "The profile `tour` asks brook first, and brook answers every request with 429.",
        "The client never sees that: the next candidate answers, and X-Router-Tried tells the truth.",
    )
    answer = await tour.ask(CHAT, _chat("Is anybody there?", model="routerpool/tour"))
    tour.say(f"   {_text(answer)}")
    told = tour.told()
    tour.say(printable(f"   → {told.get('X-Router-Tried')}, then {told.get('X-Router-Provider')} answered."))


async def _private(tour: Tour) -> None:
    tour.begin(
        "A private request stays here",
        "The request says that it is private: only a local candidate may see it, whatever the order.",
    )
    body = _chat("My diary: …", model="routerpool/tour", router={"privacy": "private"})
    answer = await tour.ask(CHAT, body)
    tour.say(f"   {_text(answer)}")
    tour.say(printable(f"   → {tour.told().get('X-Router-Provider')} answered."))
    refused = await tour.ask(CHAT, {**body, "model": "cedar/cedar-large"})
    tour.say("   Asked for a remote model by name, the router refuses rather than downgrade in silence:")
    tour.say(f"   {printable(str((refused.get('error') or {}).get('message') or _text(refused)))}")


async def _why(tour: Tour) -> None:
    tour.begin(
        "Why? Ask `explain`",
        "The same planner, without sending anything: who would answer, in named terms, and who must not.",
    )
    for body in (_chat("Is anybody there?"), _chat("My diary: …", router={"privacy": "private"})):
        plan = await tour.ask("/v1/router/explain", body)
        tour.lines(explained(plan))


async def _stream(tour: Tour) -> None:
    tour.begin("A stream", "Nothing reaches the client until a real event is there; from then on it is passed on.")
    await tour.watch(_chat("Count to three.", stream=True))


async def _bench(tour: Tour) -> None:
    tour.begin(
        "What was learned",
        "brook said when to come back, so the breaker keeps it on the bench until then: it is not even tried.",
    )
    for _ in range(3):
        await tour.ask(CHAT, _chat("Again?", model="routerpool/tour"), quietly=True)
        told = tour.told()
        tried = told.get("X-Router-Tried", "nobody else")
        tour.say(printable(f"   {told.get('X-Router-Provider')} answered, tried before: {tried}"))
    status = await tour.ask("/v1/router/status")
    for plugin in status["plugins"]:
        for cooldown in plugin["status"].get("cooldowns", ()):
            line = f"{cooldown['key']} rests for {cooldown['seconds']:.0f} s more: {cooldown['source']}"
            tour.say(printable(f"   → {line}"))


STEPS: Final[tuple[Callable[[Tour], Coroutine[Any, Any, None]], ...]] = (
    _plain,
    _fallback,
    _private,
    _why,
    _stream,
    _bench,
)


@asynccontextmanager
async def _house(quiet: bool) -> AsyncIterator[Tour]:
    import aiohttp
    from aiohttp import web

    from routerpool import create_app

    async with AsyncExitStack() as stack:
        runner = web.AppRunner(create_app(HOUSE), access_log=None, handle_signals=False, shutdown_timeout=1.0)
        stack.push_async_callback(runner.cleanup)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        timeout = aiohttp.ClientTimeout(total=60)
        session = await stack.enter_async_context(aiohttp.ClientSession(timeout=timeout))
        yield Tour(f"http://127.0.0.1:{runner.addresses[0][1]}", session, quiet)


@click.command("demo")
@click.option("--yes", is_flag=True, help="Do not wait for Enter between the steps.")
@json_option
def demo_command(yes: bool, as_json: bool) -> None:
    """Take a tour: real requests to simulated providers, with what is decided and why."""
    tour(pause=sys.stdin.isatty() and sys.stdout.isatty() and not (yes or as_json), as_json=as_json)


def tour(*, pause: bool, as_json: bool) -> None:
    """Walk through all steps; between two of them wait for Enter where `pause`. A PluginError names what is missing."""
    missing = [name for name in NEEDED if name not in installed()]
    if missing:
        raise PluginError(
            f"the tour needs plugins that are not installed: {', '.join(missing)}; "
            "in a checkout run `uv run --all-packages routerpool demo`"
        )
    logging.getLogger("routerpool.refusals").setLevel(logging.ERROR)  # the tour itself tells what was refused
    with asyncio.Runner() as runner:  # a runner, so that waiting for Enter is not within the loop and Ctrl-C ends it
        house = _house(as_json)
        walk = runner.run(house.__aenter__())
        try:
            for line in () if as_json else _introduction(walk.base):
                click.echo(line)
            for step in STEPS:
                if pause:
                    click.prompt("\n   Enter goes on, Ctrl-C ends", default="", show_default=False, prompt_suffix=" ")
                runner.run(step(walk))
        finally:
            runner.run(house.__aexit__(None, None, None))
    if as_json:
        click.echo(json.dumps({"steps": walk.shown}, indent=2, ensure_ascii=False))
    else:
        click.echo(
            "\nThat was the tour. `routerpool init` writes a configuration for what you have, `serve` starts it."
        )


def _introduction(base: str) -> Iterator[str]:
    yield f"A router listens at {base}, over providers that are simulated: no key, no network, no model."
    yield "  brook  pretends to be remote, and is always rate limited"
    yield "  cedar  pretends to be remote, and works"
    yield "  home   pretends to be local, and works"
