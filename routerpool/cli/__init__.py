"""The command line: `routerpool`, and what the commands of plugins share with it.

In: arguments. Out: text for people, or JSON with `--json`, and an exit code.

`commands` are the core's own, `groups` lets plugins add theirs and `additions` finds these, `client` are those that ask
a server or a router of the moment, `serve` is the server itself, `doctor` says what is missing, `preflight` what
serving needs, and `init` writes a configuration. What people see of all that is made in the room `terminal`.
"""

from routerpool.cli.client import Target, config_options, events, json_option
from routerpool.cli.commands import cli, main
from routerpool.terminal.tables import explained, printable

__all__ = ["Target", "cli", "config_options", "events", "explained", "json_option", "main", "printable"]
