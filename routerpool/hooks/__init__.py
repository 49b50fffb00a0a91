"""Plugins: found, made, and the one place where their hooks are called.

In: the entries of `plugins:` in the configuration. Out: `Instance`s, and `Hooks`, which hold their implementations in
call order and call them: awaited, timed, and each isolated from the others.

`loading` finds what is installed and makes what is named, `compatibility` says which plugins go with this core,
`declarations` collects what plugins bring, `calling` calls, `isolation` says whose a fault is, and `detection` asks
plugins what is here when there is no configuration. What the hooks are stands in `routerpool.hookspecs`.
"""

from routerpool.hooks.calling import Hooks, Impl
from routerpool.hooks.isolation import locate
from routerpool.hooks.loading import Installed, Instance, installed, make

__all__ = ["Hooks", "Impl", "Installed", "Instance", "installed", "locate", "make"]
