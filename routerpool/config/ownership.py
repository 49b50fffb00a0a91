"""Whose a file is that nobody has named: one that merely lies in the working folder may be somebody else's bait."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from routerpool.errors import ConfigError, Problem

__all__ = ["check_owner"]


def check_owner(file: Path, named: str) -> None:
    """Refuse a file that somebody else could have written: a ConfigError, which says that `named` names it on purpose.

    It, its folder, and a link in its place must belong to this user or to root. Nobody else may write to them, but for
    the user's own primary group. Where a system knows no such owners, every file will do.
    """
    if not hasattr(os, "geteuid"):
        return
    for path, told in ((file.parent, file.parent.stat()), (file, file.lstat()), (file, file.stat())):
        why = _doubt(told)
        if why is not None:
            what = "it" if path is file else f"its folder {path.absolute()}"
            cure = f"take it away from others (chown, chmod go-w), or name it with {named} if you trust it"
            raise ConfigError([Problem("", f"is not read, since {what} {why}; {cure}")], str(file))


def _doubt(told: os.stat_result) -> str | None:
    if told.st_uid not in (os.geteuid(), 0):
        return "belongs to another user"
    if stat.S_ISLNK(told.st_mode):  # its mode says nothing
        return None
    if told.st_mode & stat.S_IWOTH:
        return "can be written by everybody"
    if told.st_mode & stat.S_IWGRP and told.st_gid != os.getegid():
        return "can be written by a group"
    return None
