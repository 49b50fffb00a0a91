"""`routerpool demo`: the guided tour, there for everybody who has it installed, whatever a configuration names."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from routerpool import hookimpl

if TYPE_CHECKING:
    import click

__all__ = ["Demo"]


class Demo:
    """Brings the command, and does nothing else: the tour has a router of its own."""

    always_commands = True
    requires_core = ">=0.1,<0.3"

    @hookimpl
    def register_commands(self) -> Iterable[click.Command]:
        """`routerpool demo`."""
        from routerpool_demo.tour import demo_command

        return [demo_command]
