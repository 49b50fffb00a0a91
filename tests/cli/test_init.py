"""What `routerpool init` writes, and that it leaves alone what is somebody's."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routerpool.cli.init import Scaffold, env_example, inline, propose, whole
from routerpool.config.reading import load
from routerpool.document import parse
from routerpool.errors import RouterpoolError
from routerpool.hooks.detection import detect, zero_config
from routerpool.hooks.loading import installed

from ..support.shelf import Shelf, provider

ENV = {"HOME": "/home/somebody"}


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shelf:
    return Shelf.alone(tmp_path / "site", monkeypatch)


def scaffold(env: dict[str, str] | None = None) -> Scaffold:
    known = installed()
    detection = detect(env or {}, known=known)
    tree, _ = zero_config(env or {}, detection=detection)
    return Scaffold(tree=tree, known=known, detection=detection)


@pytest.fixture
def furnished(shelf: Shelf) -> Shelf:
    shelf.put("free_first", "default = 40", summary="Free before paid")
    shelf.put(
        "breaker",
        """
        @frozen(kw_only=True)
        class Config:
            trials: int = field(default=1, metadata={"help": "requests at a time"})

        class Plugin:
            Config = Config
            default = 60
            def __init__(self, config=None): pass
        """,
        summary="Benches what fails",
    )
    shelf.put("lab", provider("lab", "LAB_KEY", "The lab"), summary="Lab models")
    shelf.put("pond", provider("pond", "POND_KEY", "The pond"), summary="Pond models")
    shelf.put("sandbox", "last_resort = 20", summary="Simulated")
    return shelf


def test_the_file_says_what_runs_what_it_means_and_what_else_there_is(furnished: Shelf) -> None:
    text = whole(scaffold({"LAB_KEY": "k"}))
    config, problems = load(text=text, env=ENV)
    assert not problems
    assert [entry.name for entry in config.plugins] == ["free_first", "breaker", "lab"]
    assert "LAB_KEY is set: The lab" in text
    assert "# trials: 1  # requests at a time" in text
    assert "  # pond: {}  # Pond models\n" in text
    assert "port: 4545" in text
    switched = text.replace("  # pond: {}", "  pond: {}").replace("# trials: 1", "trials: 2")
    config, problems = load(env=ENV, text=switched)
    assert not problems
    assert [(e.name, dict(e.options)) for e in config.plugins][1:] == [
        ("breaker", {"trials": 2}),
        ("lab", {}),
        ("pond", {}),
    ]


def test_every_commented_default_is_what_runs_without_it(furnished: Shelf) -> None:
    lines = whole(scaffold()).split("\n")
    begin = lines.index("# limits:")
    end = lines.index("", begin)
    text = "\n".join(line.removeprefix("# ") for line in lines[begin:end])
    config, problems = load(text=text, env=ENV)
    assert not problems
    assert config.limits == load(text="{}", env=ENV)[0].limits
    assert config.limits.request_bytes == 32 << 20


def test_the_env_example_names_each_key(furnished: Shelf) -> None:
    told = "# The lab\n# LAB_KEY=\n\n# The pond\n# POND_KEY=\n"
    assert env_example(scaffold()).partition("\n\n")[2] == told


def test_the_env_example_says_where_to_get_a_key(shelf: Shelf) -> None:
    source = 'class Plugin(OpenAIProvider):\n    data = "data.yaml"\n'
    data = (
        "title: The lab\nbase_url: https://lab.example/v1\napi_key_env: [LAB_KEY]\nkey_page: https://lab.example/keys\n"
    )
    shelf.put("lab", source)
    (shelf.folder / "data.yaml").write_text(data)
    assert "# The lab: get a key at https://lab.example/keys\n# LAB_KEY=\n" in env_example(scaffold())


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)


@given(value=values)
def test_what_is_written_inline_is_read_back_as_it_was(value: object) -> None:
    assert parse(f"key: {inline(value)}\n").tree["key"] == value


# Where it goes


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_first_run_writes_a_file_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "routerpool.yaml"
    proposal = propose(path, "a\n")
    assert (proposal.path, proposal.how, proposal.diff) == (path, "created", ())
    assert not path.parent.exists()  # nothing is written before everything is known
    proposal.write()
    assert (path.read_text(), mode(path)) == ("a\n", 0o600)


def test_a_second_run_goes_beside_the_file_and_tells_the_difference(tmp_path: Path) -> None:
    path, new = tmp_path / "routerpool.yaml", tmp_path / "routerpool.yaml.new"
    path.write_text("server: {port: 9}\n# mine\n")
    path.chmod(0o644)
    before = path.stat().st_mtime_ns
    proposal = propose(path, "server: {port: 9}\n# ours\n")
    proposal.write()
    assert (proposal.path, proposal.how) == (new, "beside")
    assert (new.read_text(), mode(new)) == ("server: {port: 9}\n# ours\n", 0o600)
    assert proposal.diff == (
        f"--- {path}",
        f"+++ {new}",
        "@@ -1,2 +1,2 @@",
        " server: {port: 9}",
        "-# mine",
        "+# ours",
    )
    told = " ".join(proposal.notes)
    assert f"{path} is yours and stays as it is; take what you want from routerpool.yaml.new" in told
    assert "--force" in told
    assert (path.read_text(), mode(path), path.stat().st_mtime_ns) == ("server: {port: 9}\n# mine\n", 0o644, before)
    assert sorted(tmp_path.iterdir()) == [path, new]


@pytest.mark.parametrize("old", ["a\nb\n", "a\r\nb\r\n", "a\nb"])
@pytest.mark.parametrize("force", [False, True])
def test_what_says_the_same_is_kept(tmp_path: Path, old: str, force: bool) -> None:
    path = tmp_path / "routerpool.yaml"
    path.write_bytes(old.encode())
    proposal = propose(path, "a\nb\n", force=force)
    proposal.write()
    assert proposal.how == "kept"
    assert path.read_bytes() == old.encode()
    assert list(tmp_path.iterdir()) == [path]


def test_a_new_one_that_lies_there_may_be_somebodys_too(tmp_path: Path) -> None:
    path, new = tmp_path / "routerpool.yaml", tmp_path / "routerpool.yaml.new"
    path.write_text("mine\n")
    new.write_text("mine, too\n")
    with pytest.raises(RouterpoolError, match=r"routerpool\.yaml\.new is there already; .* move it away"):
        propose(path, "ours\n")
    assert new.read_text() == "mine, too\n"
    new.write_text("ours\n")
    assert propose(path, "ours\n").how == "beside"


@settings(deadline=None)
@given(old=st.binary(max_size=200), new=st.text(max_size=200))
def test_no_byte_of_a_users_file_is_ever_changed(
    tmp_path_factory: pytest.TempPathFactory, old: bytes, new: str
) -> None:
    path = tmp_path_factory.mktemp("desk") / "routerpool.yaml"
    path.write_bytes(old)
    propose(path, new).write()
    assert path.read_bytes() == old


def test_force_keeps_the_old_file_beside_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "routerpool.yaml"
    path.write_text("not: [yaml\n")
    path.chmod(0o640)
    proposal = propose(path, "a\n", force=True)
    proposal.write()
    assert (proposal.how, proposal.notes) == ("overwritten", (f"the old one is {path}.bak",))
    assert (tmp_path / "routerpool.yaml.bak").read_text() == "not: [yaml\n"
    assert (path.read_text(), mode(path)) == ("a\n", 0o640)


def test_a_link_stays_one(tmp_path: Path) -> None:
    path, real = tmp_path / "routerpool.yaml", tmp_path / "dotfiles.yaml"
    real.write_text("old\n")
    path.symlink_to(real)
    propose(path, "new\n", force=True).write()
    assert path.is_symlink()
    assert real.read_text() == "new\n"
