"""The command line."""

from routerpool.cli.commands import cli, main

__all__ = ["cli", "main"]
