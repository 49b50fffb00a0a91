"""Where the configuration is found, what it is read with, and that all that is wrong with it is told at once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from routerpool.config.reading import find, load
from routerpool.config.structure import structure
from routerpool.errors import ConfigError

from ..support.settings import ENV, Plugin, complaints


def test_without_a_file_everything_has_its_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("A=1\n")

    config, problems = load(env={"HOME": str(tmp_path)})

    assert not problems
    assert config.path is None
    assert config.plugins == ()
    assert dict(config.env) == {"HOME": str(tmp_path)}


def test_all_problems_come_at_once_sorted_by_line_with_the_plugins_among_them() -> None:
    text = (
        "limits: {idle_seconds: x}\nplugins:\n  p:\n    retries: many\n    modells: []\nserver: {port: y}\nexact: z\n"
    )
    config, problems = load(text=text, env=ENV)
    made = structure(config.plugins[0].options, Plugin, ("plugins", "p"), problems)

    assert made is None
    with pytest.raises(ConfigError) as caught:
        problems.raise_if_any()
    assert str(caught.value).splitlines() == [
        "routerpool.yaml:1: limits.idle_seconds: expected a number, got the text 'x'",
        "routerpool.yaml:4: plugins.p.retries: expected a whole number, got the text 'many'",
        "routerpool.yaml:5: plugins.p.modells: unknown key; did you mean 'models'?",
        "routerpool.yaml:6: server.port: expected a whole number, got the text 'y'",
        "routerpool.yaml:7: exact: expected one of strict, first, got the text 'z'",
    ]


def test_what_one_section_gets_wrong_hides_nothing_of_what_the_whole_would_be_told() -> None:
    assert complaints("server: {port: lots}\ndefault_profile: zzz\naliases: {a: routerpool/fsat}\n") == [
        "1: server.port: expected a whole number, got the text 'lots'",
        "2: default_profile: there is no profile 'zzz'; profiles: auto, free, fast, balanced, capable, private",
        "3: aliases.a: there is no profile 'fsat'; did you mean 'fast'?",
    ]


def test_a_profile_that_is_wrong_is_still_a_name() -> None:
    assert complaints("default_profile: mine\nprofiles: {mine: {cost: x}}") == [
        "2: profiles.mine.cost: expected one of free_first, free_only, budget, quality, got the text 'x'"
    ]


def test_every_web_page_may_come_in_only_where_keys_are_asked_for() -> None:
    cure = "or set server.api_keys"
    said = {
        'allowed_origins: ["*"]': f"allowed_origins: '*': any web page could use this router; name the pages, {cure}",
        'allowed_origins: ["null"]': "allowed_origins: 'null': any page without an origin of its own, such as a frame, "
        f"could use this router; name the pages, {cure}",
        'allowed_hosts: ["*"]': "allowed_hosts: '*': any web page could use this router by a name of its own; "
        f"name the hosts, {cure}",
    }
    for option, complaint in said.items():
        for more in ("", ", allow_unauthenticated: true"):
            assert complaints(f"server: {{{option}{more}}}") == [f"1: server.{complaint}"]
        for plane in ("api_keys", "host_keys", "admin_keys"):
            assert complaints(f"server: {{{option}, {plane}: ['sha256:{'0' * 64}']}}") == []


def test_a_key_is_for_one_plane() -> None:
    key, other = (f"'sha256:{digit * 64}'" for digit in "01")
    shared = f"server: {{api_keys: [{key}], host_keys: [{other}, {key}], admin_keys: [{key}]}}"
    assert complaints(shared) == [
        "1: server.host_keys[1]: is a key of server.api_keys, too; whom it is for must be plain",
        "1: server.admin_keys[0]: is a key of server.api_keys, too; whom it is for must be plain",
        "1: server.admin_keys[0]: is a key of server.host_keys, too; whom it is for must be plain",
    ]


# Where the file is


def test_the_file_is_looked_up_in_the_documented_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, home, system = tmp_path / "here", tmp_path / "home", tmp_path / "etc"
    places = [here / "routerpool.yaml", home / ".config/routerpool/routerpool.yaml", system / "routerpool.yaml"]
    for place in places:
        place.parent.mkdir(parents=True)
        place.write_text("plugins: {}")
    named, asked = tmp_path / "named.yaml", tmp_path / "asked.yaml"
    named.touch()
    asked.touch()
    monkeypatch.chdir(here)
    env = {"ROUTERPOOL_CONFIG": str(named)}

    assert find(asked, env, home, system) == asked
    assert find(None, env, home, system) == named
    for place in places:
        found = find(None, {"HOME": str(home)}, None, system)
        assert found is not None
        assert found.resolve() == place
        place.unlink()
    assert find(None, {}, home, system) is None
    assert find(None, {}, None, system) is None


def test_a_file_that_was_asked_for_must_exist(tmp_path: Path) -> None:
    absent = tmp_path / "absent.yaml"

    with pytest.raises(ConfigError) as caught:
        find(absent, {})
    assert str(caught.value) == f"{absent}: there is no such file; mend --config, or let `routerpool init` write one"
    with pytest.raises(ConfigError, match=r"mend \$ROUTERPOOL_CONFIG"):
        load(env={"ROUTERPOOL_CONFIG": str(absent)})


@pytest.mark.parametrize(
    ("url", "expanded"),
    [
        ("sqlite:///~/a.db", "sqlite:////home/ada/a.db"),
        ("sqlite:////var/a.db", "sqlite:////var/a.db"),
        ("postgresql+asyncpg://u:p~@h/~x", "postgresql+asyncpg://u:p~@h/~x"),
    ],
)
def test_home_is_expanded_in_the_stores_url(url: str, expanded: str) -> None:
    config, _ = load(text=f"store: {url}", env=ENV)

    assert config.store == expanded
    assert url not in repr(config)


def test_a_home_that_is_unknown_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", unknown)
    assert complaints("plugins: {}", {}) == ["1: store: ~ is unknown because HOME is not set; write the folder out"]


# What stands beside it


def test_a_disabled_plugin_needs_no_variables() -> None:
    config, problems = load(text="plugins: {p: {enabled: false, key: '${ABSENT}'}}", env=ENV)

    assert not problems
    assert config.plugins[0].options == {"key": "${ABSENT}"}


def test_dotenv_beside_the_file_yields_to_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FROM_FILE", raising=False)
    (tmp_path / ".env").write_text("FROM_FILE=a$b${c}\nBOTH=file\nexport QUOTED='x y'\nBARE\n")
    file = tmp_path / "my.yaml"
    file.write_text("plugins: {p: {a: '${FROM_FILE}', b: '${BOTH}', c: '${QUOTED}'}}")

    config, problems = load(file, env={"BOTH": "real"} | ENV)

    assert not problems
    assert config.plugins[0].options == {"a": "a$b${c}", "b": "real", "c": "x y"}
    assert dict(config.env) == {"FROM_FILE": "a$b${c}", "BOTH": "real", "QUOTED": "x y"} | ENV
    assert "FROM_FILE" not in os.environ
    assert config.path == file
    assert "x y" not in repr(config)


def test_another_env_file_replaces_the_one_beside(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("A=beside\nB=beside\n")
    (tmp_path / "other").write_text("A=other\n")
    file = tmp_path / "routerpool.yaml"
    file.write_text("plugins: {}")

    config, _ = load(file, env={}, env_file=tmp_path / "other")

    assert dict(config.env) == {"A": "other"}
    with pytest.raises(ConfigError, match="there is no such file; mend --env-file or leave it out"):
        load(file, env={}, env_file=tmp_path / "absent")


def test_an_env_file_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"A=\xff\xfe\n")
    (tmp_path / "routerpool.yaml").write_text("plugins: {}")

    with pytest.raises(ConfigError, match=r"\.env: cannot be read; check its rights, and save it as UTF-8"):
        load(tmp_path / "routerpool.yaml", env={})


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("sqlite:///router.db", "sqlite:///{folder}/router.db"),
        ("sqlite:///data/router.db?timeout=5", "sqlite:///{folder}/data/router.db?timeout=5"),
        ("sqlite:////var/router.db", "sqlite:////var/router.db"),
        ("sqlite:///:memory:", "sqlite:///:memory:"),
        ("sqlite://", "sqlite://"),
        ("postgresql:///pool", "postgresql:///pool"),
    ],
)
def test_a_relative_store_lies_beside_the_configuration(written: str, meant: str, tmp_path: Path) -> None:
    file = tmp_path / "routerpool.yaml"
    file.write_text(f"store: {written!r}\n")
    config, problems = load(file)
    assert problems.found == []
    assert config.store == meant.replace("{folder}", f"/{tmp_path.as_posix().lstrip('/')}")


@pytest.mark.parametrize("name", ["cert.pem", "tls/cert.pem"])
def test_a_relative_path_lies_beside_the_configuration(name: str, tmp_path: Path) -> None:
    file = tmp_path / "routerpool.yaml"
    file.write_text(f"server: {{tls: {{cert: {name}, key: /etc/key.pem}}}}\n")
    config, _ = load(file)
    assert config.server.tls is not None
    assert config.server.tls.cert == tmp_path / name
    assert config.server.tls.key == Path("/etc/key.pem")
