"""A file that nobody named is read only where nobody else could have written it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from routerpool.config.reading import load
from routerpool.errors import ConfigError

pytestmark = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="this system knows no such owners")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "here"
    folder.mkdir(mode=0o755)
    (folder / "routerpool.yaml").write_text("default_profile: free")
    (folder / ".env").write_text("OF_DOTENV=1")
    for name in ("routerpool.yaml", ".env"):
        (folder / name).chmod(0o644)
    monkeypatch.chdir(folder)
    return folder


def read() -> str:
    config, problems = load(env={})
    problems.raise_if_any()
    assert config.path == Path("routerpool.yaml")
    assert config.env["OF_DOTENV"] == "1"
    return config.default_profile


def test_ones_own_file_in_ones_own_folder_is_read(here: Path) -> None:
    assert read() == "free"


@pytest.mark.parametrize("name", [".", "routerpool.yaml", ".env"])
def test_what_everybody_can_write_is_refused_with_the_cure(here: Path, name: str) -> None:
    (here / name).chmod(0o777)
    with pytest.raises(ConfigError, match=r"can be written by everybody; .*(--config|--env-file)"):
        load(env={})


@pytest.mark.parametrize("name", [".", "routerpool.yaml", ".env"])
def test_what_another_user_owns_is_refused(here: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("routerpool.config.ownership.os.geteuid", lambda: 54321)
    if os.geteuid() == 54321 and here.stat().st_uid == 0:
        for path in (here, here / "routerpool.yaml", here / ".env"):  # root's files are everybody's
            os.chown(path, 54321, -1)
        os.chown(here / name, 1234, -1)
    with pytest.raises(ConfigError, match="belongs to another user"):
        load(env={})


def test_a_link_of_another_user_is_refused(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.geteuid():
        pytest.skip("only root may give a link away")
    (here / "routerpool.yaml").rename(here / "mine.yaml")
    (here / "routerpool.yaml").symlink_to("mine.yaml")
    os.chown(here / "routerpool.yaml", 1234, -1, follow_symlinks=False)
    with pytest.raises(ConfigError, match="belongs to another user"):
        load(env={})


def test_the_users_own_group_may_write_and_another_may_not(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "routerpool.yaml").chmod(0o664)
    group = (here / "routerpool.yaml").stat().st_gid
    monkeypatch.setattr("routerpool.config.ownership.os.getegid", lambda: group)
    assert read() == "free"
    monkeypatch.setattr("routerpool.config.ownership.os.getegid", lambda: group + 1)
    with pytest.raises(ConfigError, match="can be written by a group"):
        load(env={})


def test_who_names_a_file_is_taken_at_his_word(here: Path) -> None:
    for name in (".", "routerpool.yaml", ".env"):
        (here / name).chmod(0o777)
    assert load("routerpool.yaml", env={})[0].default_profile == "free"
    assert load(env={"ROUTERPOOL_CONFIG": "routerpool.yaml"})[0].default_profile == "free"
