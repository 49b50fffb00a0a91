"""What one call of each hook costs, plugin by plugin: `python contrib/benchmarks/hook_costs.py [--requests N]`.

A router with the default plugins, as far as they are installed, and 20 simulated candidates answers requests of 2 KB
in this process. Every request brings a text that nobody has seen, half of them meet a candidate that fails, and every
call of a hook is timed, in microseconds; the median stands for a call, since others use this machine too. The result
is written to `hook_costs.json` beside this script, and the hooks' pages quote it beside the budgets.
"""

from __future__ import annotations

import argparse
import asyncio
import inspect
import json
import os
import platform
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter_ns
from typing import Any

from attrs import evolve
from load import TEXT

from routerpool.hooks.calling import Hooks, Impl
from routerpool.hooks.detection import default_plugins
from routerpool.hooks.loading import installed
from routerpool.testing import make_router

KEPT = Path(__file__).resolve().parent / "hook_costs.json"
CANDIDATES, SIZE = 20, 2000
FEWEST = 20
"""A hook that was called less often is not quoted."""

Costs = dict[str, dict[str, list[int]]]


def timed(impl: Impl, took: list[int]) -> Impl:
    """The same implementation, whose calls leave their nanoseconds in `took`; one that is never awaited leaves none."""
    call: Callable[..., Any] = impl.call

    def plain(*args: Any) -> Any:
        began = perf_counter_ns()
        answer = call(*args)
        if inspect.isgenerator(answer):
            answer = list(answer)
        took.append(perf_counter_ns() - began)
        return answer

    async def awaited(*args: Any) -> Any:
        began = perf_counter_ns()
        answer = await call(*args)
        took.append(perf_counter_ns() - began)
        return answer

    return evolve(impl, call=awaited if impl.is_async else plain)


@contextmanager
def watched(hooks: Hooks) -> Iterator[Costs]:
    """Time every call of every hook on a request's way."""
    costs: Costs = defaultdict(lambda: defaultdict(list))
    before = hooks.impls
    hooks.impls = {
        hook: impls if hook == "lifespan" else tuple(timed(i, costs[hook][i.instance.name]) for i in impls)
        for hook, impls in before.items()
    }
    yield costs
    hooks.impls = before


def configuration() -> dict[str, Any]:
    """The default plugins before 20 providers, of which the first one fails and is never benched for it."""
    plugins: dict[str, Any] = {name: {} for name in default_plugins(installed())}
    if "breaker" in plugins:
        plugins["breaker"] = {"failures": 1000}
    for number in range(CANDIDATES):
        plugins[f"s{number:02}"] = {"use": "sandbox", "latency_seconds": 0, "models": ["m"], "local": False}
    plugins["s00"] |= {"fail": "server", "failure_rate": 0.5}
    return {"plugins": plugins}


def body(number: int) -> dict[str, Any]:
    """A request of about 2 KB with a text of its own, in two messages."""
    text = (TEXT * (SIZE // len(TEXT) + 1))[:SIZE]
    asked = [f"{number} {text[: SIZE // 2]}", f"{text[SIZE // 2 :]} {number}"]
    return {"model": "auto", "messages": [{"role": "user", "content": said} for said in asked]}


async def measure(requests: int) -> Costs:
    """Answer so many requests, after a tenth of them to warm up."""
    async with make_router(configuration()) as router:
        for number in range(requests // 10):
            await router.chat(body(-number))
        with watched(router.hooks) as costs:
            for number in range(requests):
                await router.chat(body(number))
            await router.status()
        return costs


def main() -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=3000)
    costs = asyncio.run(measure(parser.parse_args().requests))
    medians: dict[str, dict[str, float]] = {
        hook: {name: round(statistics.median(took) / 1e3, 1) for name, took in plugins.items() if len(took) >= FEWEST}
        for hook, plugins in costs.items()
    }
    about = {
        "time": time.strftime("%Y-%m-%d"),
        "characters": SIZE,
        "python": platform.python_version(),
        "cores": os.cpu_count(),
    }
    for hook, plugins in medians.items():
        for name, value in plugins.items():
            print(f"{hook:14} {name:12} {value:8.1f} µs  (best {min(costs[hook][name]) / 1e3:.1f})")
    kept = {hook: plugins for hook, plugins in medians.items() if plugins}
    KEPT.write_text(json.dumps({"about": about, "microseconds": kept}, indent=1) + "\n")


if __name__ == "__main__":
    main()
