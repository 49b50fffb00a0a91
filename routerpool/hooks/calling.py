"""The one place where the hooks of plugins are called.

pluggy owns registration, validation and order; it knows no `await`, so this module does its own calling over
implementations frozen to tuples: it awaits, isolates and times. Nothing else calls a hook, except that `detection` asks
`detect` of plugins that nobody has switched on yet.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from operator import itemgetter
from time import perf_counter
from types import CoroutineType, GeneratorType
from typing import Any, TypeVar

import pluggy
from attrs import define, field, frozen

from routerpool import hookspecs
from routerpool.errors import PluginError, RequestError, RouterpoolError, Unavailable
from routerpool.hooks.isolation import Steps, locate, ours_to_end
from routerpool.hooks.loading import Instance
from routerpool.hookspecs import PROJECT
from routerpool.types import Answer, ChatRequest, Decision, Failure, Features

__all__ = ["HOOKS", "Hooks", "Impl", "take_over"]

log = logging.getLogger("routerpool.hooks")

T = TypeVar("T")

SLOW_SECONDS = 0.05
"""A hook that keeps the loop longer than this in one go is named as slow: other streams would feel it."""

HOOK_SECONDS = 5.0
"""An `async def` hook on a request's way is given up after this long."""

OPEN_SECONDS = 300.0
"""A plugin that has not opened after this long is switched off; loading a large model may take minutes."""

CLOSE_SECONDS = 30.0
"""A plugin that has not closed after this long is left as it is: a stop must end."""

ACCEPTS: Mapping[str, type] = {
    "classify": Features,
    "mutate": ChatRequest,
    "judge": Failure,
    "intercept": Answer,
    "on_failure": Decision,
    "status": Mapping,
}
"""What a hook may answer besides None; the others answer with iterables or objects of their own."""


@frozen
class Impl:
    """One hook of one plugin, ready to be called with all arguments of its spec in order."""

    hook: str
    instance: Instance
    call: Callable[..., Any]
    is_async: bool
    accepts: type | None = None


@define
class Hooks:
    """The plugins of one generation and their hooks, in call order."""

    instances: dict[str, Instance] = field(factory=dict)
    impls: dict[str, tuple[Impl, ...]] = field(factory=dict)
    seconds: float = HOOK_SECONDS
    manager: pluggy.PluginManager = field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self.manager = pluggy.PluginManager(PROJECT)
        self.manager.add_hookspecs(hookspecs)
        self._freeze()

    @classmethod
    def of(cls, instances: Iterable[Instance]) -> Hooks:
        """Register these plugins; a hook with a wrong name or argument is a PluginError with pluggy's own words."""
        hooks = cls()
        for instance in instances:
            hooks.register(instance)
        return hooks

    def register(self, instance: Instance) -> None:
        """Add one plugin behind the others."""
        try:
            self.manager.register(instance.plugin, name=instance.name)
            self.manager.check_pending()
        except (pluggy.PluginValidationError, ValueError) as error:
            raise PluginError(
                f"plugin {instance.name!r} of {instance.distribution} {instance.version}: {error}"
            ) from error
        self.instances[instance.name] = instance
        self._freeze()

    def switch(self, name: str, enabled: bool) -> Instance:
        """Take a plugin's hooks in or out while requests run; those that have begun keep what they began with."""
        instance = self.instances[name]
        instance.enabled = enabled
        self._freeze()
        return instance

    @property
    def unprotected(self) -> list[str]:
        """The required plugins that are switched off: what they look at goes on without them."""
        return [name for name, instance in self.instances.items() if instance.required and not instance.enabled]

    def _freeze(self) -> None:
        order = {name: index for index, name in enumerate(self.instances)}
        impls: dict[str, tuple[Impl, ...]] = {}
        for name in HOOKS:
            found = [impl for impl in getattr(self.manager.hook, name).get_hookimpls() if impl.plugin_name in order]
            # pluggy calls last come first; the YAML file reads first come first, tryfirst and trylast kept.
            found.sort(key=lambda impl: (not impl.tryfirst, impl.trylast, order[impl.plugin_name]))
            impls[name] = tuple(
                _impl(name, impl, self.instances[impl.plugin_name])
                for impl in found
                if self.instances[impl.plugin_name].enabled
            )
        self.impls = impls

    async def run(self, impl: Impl, *args: Any) -> Any:
        """Call one hook; a fault is counted and answered with None, or refuses the request of a required plugin."""
        result = self.call(impl, *args)
        return await result if type(result) is CoroutineType else result

    def call(self, impl: Impl, *args: Any) -> Any:
        """The same without a coroutine of our own where the hook waits for nothing; else the answer is to be awaited.

        Most hooks never wait, and a request passes a dozen of them: what does not wait should cost little.
        """
        if impl.is_async:
            return self._first_step(impl, impl.call(*args))
        started = perf_counter()
        try:
            result = impl.call(*args)
            if result is None and perf_counter() - started <= SLOW_SECONDS:
                return None
            if type(result) is GeneratorType:
                result = list(result)
        except BaseException as error:
            return self._fault_of(impl, error)
        if type(result) is CoroutineType:  # it is begun by whoever awaits it
            return self._deferred(impl, result)
        return self._result(impl, result, perf_counter() - started)

    def _first_step(self, impl: Impl, coroutine: Any) -> Any:
        steps = Steps(coroutine)
        try:
            if not steps.first():
                return self._finish(impl, steps)
        except BaseException as error:
            return self._fault_of(impl, error)
        return self._result(impl, steps.result, steps.longest)

    async def _deferred(self, impl: Impl, coroutine: Any) -> Any:
        result = self._first_step(impl, coroutine)
        return await result if type(result) is CoroutineType else result

    async def _finish(self, impl: Impl, steps: Steps) -> Any:
        try:
            async with asyncio.timeout(self.seconds):
                await steps
        except BaseException as error:
            return self._fault_of(impl, error)
        return self._result(impl, steps.result, steps.longest)

    def _fault_of(self, impl: Impl, error: BaseException) -> None:
        on_purpose = impl.hook in REFUSALS.get(type(error), ())  # a refused request, a slot that is taken
        if on_purpose or ours_to_end(error):
            raise error
        self.fault(impl, locate(error))

    def _result(self, impl: Impl, result: Any, held: float) -> Any:
        if result is None and held <= SLOW_SECONDS:
            return None
        if held > SLOW_SECONDS:
            impl.instance.slow += 1
            log.warning("plugin %s held the loop for %.0f ms in %s", impl.instance.name, held * 1e3, impl.hook)
        if result is not None and impl.accepts is not None and not isinstance(result, impl.accepts):
            self.fault(impl, f"answered with {type(result).__name__} instead of {impl.accepts.__name__}")
            return None
        return result

    async def fold(
        self,
        hook: str,
        value: T,
        sound: Callable[[Impl, T, Any], T],
        *,
        before: tuple[Any, ...] = (),
        behind: tuple[Any, ...] = (),
    ) -> T:
        """Hand a value through all implementations, each with what those before it have made of it.

        It stands among the hook's other arguments, which are `before` and `behind` it. None changes nothing; `sound`
        says what is taken of another answer.
        """
        for impl in self.impls[hook]:
            answer = self.call(impl, *before, value, *behind)
            if type(answer) is CoroutineType:
                answer = await answer
            if answer is not None:
                value = sound(impl, value, answer)
        return value

    async def first(self, hook: str, *args: Any, wrong: Callable[[Any], str | None] | None = None) -> Any:
        """The first answer of all implementations, asked one after the other; one that is `wrong` is a fault."""
        for impl in self.impls[hook]:
            answer = self.call(impl, *args)
            if type(answer) is CoroutineType:
                answer = await answer
            if answer is None:
                continue
            what = wrong(answer) if wrong is not None else None
            if what is None:
                return answer
            self.fault(impl, what)
        return None

    def begun(self, hook: str, *args: Any) -> list[Any]:
        """Ask all implementations at once; what is still to be awaited of them."""
        waiting = []
        for impl in self.impls[hook]:
            rest = self.run(impl, *args) if impl.is_async else self.call(impl, *args)
            if type(rest) is CoroutineType:
                waiting.append(rest)
        return waiting

    async def collect(self, hook: str, *args: Any, among: tuple[Impl, ...] | None = None) -> list[tuple[Impl, Any]]:
        """Ask all implementations, or these, one after the other; those that answered, with their answers."""
        answers = []
        for impl in self.impls[hook] if among is None else among:
            result = self.call(impl, *args)
            if type(result) is CoroutineType:
                result = await result
            if result is not None:
                answers.append((impl, result))
        return answers

    def items(self, impl: Impl, answer: Any, sound: Callable[[Any], bool], what: str) -> list[Any]:
        """The items of a hook's answer that are sound; that some are not, or that there are none, is one fault."""
        try:
            found = list(answer)
            good = [item for item in found if sound(item)]
        except BaseException as error:
            if ours_to_end(error):
                raise
            self.fault(impl, f"answered with {type(answer).__name__}, which breaks: {locate(error)}")
            return []
        if len(good) != len(found):
            self.fault(impl, f"answered with something that is no {what}")
        return good

    def blame(self, instance: Instance, hook: str, what: str) -> None:
        """Count and name a fault behind which nothing is left to refuse."""
        instance.faults += 1
        instance.last_fault = f"{hook}: {what}"
        log.error("plugin %s failed in %s: %s", instance.name, hook, what)

    def fault(self, impl: Impl, what: str) -> None:
        """Count and name a fault; a required plugin refuses the request instead (it fails closed)."""
        instance = impl.instance
        self.blame(instance, impl.hook, what)
        if instance.required and impl.hook in REFUSABLE:
            raise RequestError(
                "plugin_required",
                f"the plugin {instance.name!r} is required and failed in {impl.hook}; the request was not sent on",
                details={"plugin": instance.name},
            )

    @asynccontextmanager
    async def lifespan(self, router: Any) -> AsyncIterator[None]:
        """Open every plugin in order, close them in reverse, each whatever the others do.

        A plugin that fails to open is switched off and named; a required one stops the start.
        """
        async with AsyncExitStack() as stack:
            for impl in self.impls["lifespan"]:
                try:
                    life = impl.call(router)
                    async with asyncio.timeout(OPEN_SECONDS):
                        await anext(life)
                except BaseException as error:
                    if ours_to_end(error):
                        raise
                    name = impl.instance.name
                    if impl.instance.required:
                        raise PluginError(f"the required plugin {name!r} failed to start: {error}") from error
                    impl.instance.faults += 1
                    told = str(error) if isinstance(error, RouterpoolError) else locate(error)
                    impl.instance.last_fault = f"lifespan: {told}"
                    log.error("plugin %s failed to start and is switched off: %s", name, told)
                    self.switch(name, False)
                else:
                    stack.push_async_callback(_close, self, impl, life)
            yield

    def gather(self, hook: str, *args: Any) -> list[tuple[Instance, Any]]:
        """Ask all implementations of a start-time hook (`register_*`), which may not be async; a fault names them."""
        gathered = []
        for impl in self.impls[hook]:
            instance = impl.instance
            try:
                gathered += [(instance, item) for item in impl.call(*args) or ()]
            except (Exception, SystemExit) as error:
                who = f"plugin {instance.name!r} of {instance.distribution} {instance.version}"
                raise PluginError(f"{who} fails in {hook}: {type(error).__name__}: {error}") from error
        return gathered


def take_over(hooks: Hooks, older: Hooks) -> None:
    """Have each plugin take over what the one of the same name and kind has learned in the generation before.

    A class that wants it has a method `take_over(older)`; before anything else is called it gets the other plugin.
    """
    for name, instance in hooks.instances.items():
        before, take = older.instances.get(name), getattr(instance.plugin, "take_over", None)
        if before is None or take is None or type(before.plugin) is not type(instance.plugin):
            continue
        try:
            take(before.plugin)
        except Exception as error:
            hooks.blame(instance, "take_over", locate(error))


async def _close(hooks: Hooks, impl: Impl, life: AsyncIterator[None]) -> None:
    try:
        async with asyncio.timeout(CLOSE_SECONDS):
            await anext(life)
    except StopAsyncIteration:
        return
    except BaseException as error:
        if ours_to_end(error):
            raise
        hooks.fault(impl, locate(error))
    else:
        hooks.fault(impl, "yielded more than once")


HOOKS: tuple[str, ...] = tuple(
    name for name, value in vars(hookspecs).items() if inspect.isfunction(value) and hasattr(value, f"{PROJECT}_spec")
)
"""The names of all hooks, in the order of the manual."""

REFUSABLE = frozenset({"classify", "veto", "score", "intercept", "begin", "reserve", "mutate", "judge", "rewrite"})
"""Where a required plugin's fault refuses the request; behind these the answer is already under way."""


def _impl(hook: str, impl: pluggy.HookImpl, instance: Instance) -> Impl:
    """Freeze one implementation to a function that takes all arguments of its spec by position."""
    names = tuple(inspect.signature(getattr(hookspecs, hook)).parameters)
    function, taken = impl.function, tuple(impl.argnames)
    call: Callable[..., Any]
    if taken == names[: len(taken)] and len(taken) == len(names):
        call = function
    else:
        call = _chooser(function, tuple(names.index(name) for name in taken))

    return Impl(hook, instance, call, inspect.iscoroutinefunction(function), ACCEPTS.get(hook))


def _chooser(function: Callable[..., Any], positions: tuple[int, ...]) -> Callable[..., Any]:
    """A function of all arguments that hands on those at these positions; the usual ones without looking at others."""
    if not positions:
        return lambda *_: function()
    if positions == (0,):
        return lambda first, *_: function(first)
    if positions == (1,):
        return lambda _, second, *__: function(second)
    if positions == (2,):
        return lambda _, __, third: function(third)
    chosen = itemgetter(*positions)
    if len(positions) == 1:
        return lambda *args: function(chosen(args))
    return lambda *args: function(*chosen(args))


REFUSALS: Mapping[type[BaseException], frozenset[str]] = {RequestError: REFUSABLE, Unavailable: frozenset({"reserve"})}
"""The errors by which a hook says no on purpose, and where it may."""
