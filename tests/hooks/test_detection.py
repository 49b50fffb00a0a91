from __future__ import annotations

import asyncio
from pathlib import Path
from time import monotonic

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from routerpool.cli.init import Scaffold, inline, write_env_example, write_yaml
from routerpool.config.document import parse
from routerpool.config.reading import from_mapping, load
from routerpool.errors import ConfigError, PluginError
from routerpool.hooks.detection import DEFAULT_PLUGINS, Detection, detect, zero_config
from routerpool.hooks.loading import installed

from ..support.shelf import Shelf, provider


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shelf:
    return Shelf.alone(tmp_path / "site", monkeypatch)


ENV = {"HOME": "/home/somebody"}

SEES = """
@hookimpl
def detect(self, probe):
    yield Detected(name="{name}", source="{source}", confidence={confidence}, options={options})
"""


def sees(name: str, confidence: float = 1.0, options: str = "{}", source: str = "") -> str:
    return SEES.format(name=name, source=source or f"{name} is here", confidence=confidence, options=options)


def names(detection: Detection) -> list[str]:
    return [sighting.detected.name for sighting in detection.found]


# Looking around


def test_every_form_of_the_hook_is_asked_and_the_most_certain_comes_first(shelf: Shelf) -> None:
    shelf.put("sync", sees("sync", 0.6))
    shelf.put(
        "later",
        """
        @hookimpl
        async def detect(self, probe):
            await asyncio.sleep(0)
            return [Detected(name="later", source="later is here", confidence=0.9)]
        """,
    )
    shelf.put(
        "drip",
        """
        @hookimpl
        async def detect(self):
            yield Detected(name="drip", source="drip is here", confidence=0.3)
        """,
    )
    assert names(detect({})) == ["later", "sync", "drip"]


def test_the_environment_given_is_the_one_that_is_looked_at(shelf: Shelf) -> None:
    shelf.put("lab", provider("lab", "LAB_KEY"))
    assert names(detect({})) == []
    found = detect({"LAB_KEY": "hunter2"}).found
    assert [(s.detected.source, s.answers) for s in found] == [("LAB_KEY is set", True)]


def test_plugins_look_at_the_same_time(shelf: Shelf) -> None:
    (shelf.folder / "meeting.py").write_text("import threading\nbarrier = threading.Barrier(2, timeout=30)\n")
    for name in ("one", "two"):
        shelf.put(
            name,
            f"""
            @hookimpl
            def detect(self):
                import meeting
                meeting.barrier.wait()
                yield Detected(name="{name}", source="met", confidence=1.0)
            """,
        )
    assert sorted(names(detect({}, timeout=30))) == ["one", "two"]


@pytest.mark.parametrize("form", ["def", "async def"])
def test_a_look_that_hangs_is_left_out_in_time(shelf: Shelf, form: str) -> None:
    wait = "threading.Event().wait(60)" if form == "def" else "await asyncio.Event().wait()"
    shelf.put("stuck", f"@hookimpl\n{form} detect(self):\n    {wait}\n    return []")
    shelf.put("here", sees("here"))
    started = monotonic()
    detection = detect({}, timeout=0.5)
    assert monotonic() - started < 10
    assert names(detection) == ["here"]
    assert any(fault.startswith("stuck was left out") for fault in detection.faults)


def test_what_is_broken_is_named_without_its_text_and_the_others_are_found(shelf: Shelf) -> None:
    shelf.put("bad", "@hookimpl\ndef detect(self, probe):\n    raise ValueError(probe.env['LAB_KEY'])")
    shelf.put("ghost", "class Plugin:\n    pass\nimport a_module_that_is_not_there")
    shelf.put("odd", "@hookimpl\ndef detect(self, weather):\n    return []")
    shelf.put("wrong", "@hookimpl\ndef detect(self):\n    return ['groq']")
    shelf.put("here", sees("here"))
    detection = detect({"LAB_KEY": "hunter2"})
    told = "\n".join(detection.faults)
    assert names(detection) == ["here"]
    assert "hunter2" not in told
    assert "bad was left out: ValueError at" in told
    assert "ghost (routerpool-ghost 1.0) cannot be used: ModuleNotFoundError" in told
    assert "weather" in told
    assert "wrong was left out" in told


def test_a_plugin_that_needs_options_is_not_asked_and_named(shelf: Shelf) -> None:
    shelf.put(
        "needy",
        """
        @frozen
        class Config:
            address: str

        class Plugin:
            Config = Config
            def __init__(self, config): pass
            @hookimpl
            def detect(self):
                yield Detected(name="needy", source="never", confidence=1.0)
        """,
    )
    detection = detect({})
    assert (names(detection), detection.wanting, detection.faults) == ([], ("needy",), ())
    assert any("needy" in note for note in zero_config({})[1])


def test_the_more_certain_of_two_sightings_of_one_name_counts(shelf: Shelf) -> None:
    shelf.put("a", sees("lab", 0.6, source="guessed"))
    shelf.put("b", sees("lab", 0.8, source="seen"))
    assert [s.detected.source for s in detect({}).found] == ["seen"]


# Without a configuration


def test_the_default_set_runs_in_its_order_and_then_what_was_seen(shelf: Shelf) -> None:
    for name in ("zzz", *reversed(DEFAULT_PLUGINS)):
        shelf.put(name, "pass")
    shelf.put("lab", provider("lab", "LAB_KEY"))
    shelf.put("gguf", sees("tiny", 0.8, "{'model': '/m/tiny.gguf'}"))
    tree, notes = zero_config({"LAB_KEY": "k"})
    assert list(tree["plugins"]) == [*DEFAULT_PLUGINS, "lab", "tiny"]
    assert tree["plugins"]["tiny"] == {"use": "gguf", "model": "/m/tiny.gguf"}
    assert notes == ["LAB_KEY is set → lab", "tiny is here → tiny"]
    config, problems = from_mapping(tree, env=ENV)
    assert [entry.name for entry in config.plugins] == list(tree["plugins"])
    assert not problems


def test_the_sandbox_serves_only_where_nothing_else_can_answer(shelf: Shelf) -> None:
    shelf.put("sandbox", sees("sandbox"))
    shelf.put("gauge", sees("gauge"))  # seen, but it brings no provider
    shelf.put("lab", provider("lab", "LAB_KEY"))
    tree, notes = zero_config({})
    assert list(tree["plugins"]) == ["gauge", "sandbox"]
    assert "simulated" in notes[-1]
    tree, notes = zero_config({"LAB_KEY": "k"})
    assert list(tree["plugins"]) == ["lab", "gauge"] or list(tree["plugins"]) == ["gauge", "lab"]
    assert not any("simulated" in note for note in notes)


def test_a_guess_is_told_and_left_off(shelf: Shelf) -> None:
    shelf.put("maybe", provider("maybe", "X") + "\n" + "    " + sees("maybe", 0.3).strip().replace("\n", "\n    "))
    shelf.put("sandbox", "pass")
    tree, notes = zero_config({})
    assert list(tree["plugins"]) == ["sandbox"]
    assert notes[0].startswith("maybe is here: perhaps maybe, left off")


def test_without_any_plugin_the_error_says_the_cure(shelf: Shelf) -> None:
    with pytest.raises(PluginError, match=r"uv run --all-packages routerpool serve.*a bare `uv sync` removes"):
        zero_config({})


def test_it_can_be_asked_within_a_running_loop(shelf: Shelf) -> None:
    shelf.put(
        "lab", "@hookimpl\nasync def detect(self):\n    return [Detected(name='lab', source='s', confidence=1.0)]"
    )

    async def inside() -> list[str]:
        return names(detect({}))

    assert asyncio.run(inside()) == ["lab"]


# What init writes


def scaffold(env: dict[str, str] | None = None) -> Scaffold:
    known = installed()
    detection = detect(env or {}, known=known)
    tree, _ = zero_config(env or {}, detection=detection)
    return Scaffold(tree=tree, known=known, detection=detection)


@pytest.fixture
def furnished(shelf: Shelf) -> Shelf:
    shelf.put("free_first", "pass", summary="Free before paid")
    shelf.put(
        "breaker",
        """
        @frozen(kw_only=True)
        class Config:
            trials: int = field(default=1, metadata={"help": "requests at a time"})

        class Plugin:
            Config = Config
            def __init__(self, config=None): pass
        """,
        summary="Benches what fails",
    )
    shelf.put("lab", provider("lab", "LAB_KEY", "The lab"), summary="Lab models")
    shelf.put("pond", provider("pond", "POND_KEY", "The pond"), summary="Pond models")
    shelf.put("sandbox", "pass", summary="Simulated")
    return shelf


def test_the_file_says_what_runs_what_it_means_and_what_else_there_is(furnished: Shelf, tmp_path: Path) -> None:
    path = tmp_path / "routerpool.yaml"
    assert write_yaml(scaffold({"LAB_KEY": "k"}), path).how == "created"
    text = path.read_text()
    config, problems = load(path, env=ENV)
    assert not problems
    assert [entry.name for entry in config.plugins] == ["free_first", "breaker", "lab"]
    assert "LAB_KEY is set: The lab" in text
    assert "# trials: 1  # requests at a time" in text
    assert "  # pond: {}  # Pond models\n" in text
    assert "port: 4545" in text
    switched = text.replace("  # pond: {}", "  pond: {}").replace("# trials: 1", "trials: 2")
    config, problems = load(path, env=ENV, text=switched)
    assert not problems
    assert [(e.name, dict(e.options)) for e in config.plugins][1:] == [
        ("breaker", {"trials": 2}),
        ("lab", {}),
        ("pond", {}),
    ]


def test_every_commented_default_is_what_runs_without_it(furnished: Shelf, tmp_path: Path) -> None:
    path = tmp_path / "routerpool.yaml"
    write_yaml(scaffold(), path)
    lines = path.read_text().split("\n")
    begin = lines.index("# limits:")
    end = lines.index("", begin)
    text = "\n".join(line.removeprefix("# ") for line in lines[begin:end])
    config, problems = load(text=text, env=ENV)
    assert not problems
    assert config.limits == load(text="{}", env=ENV)[0].limits
    assert config.limits.request_bytes == 32 << 20


def test_a_second_run_adds_what_is_new_and_keeps_every_word(furnished: Shelf, tmp_path: Path) -> None:
    path = tmp_path / "routerpool.yaml"
    old = "# mine\nserver: {port: 9}   # kept\n\nplugins:\n    free_first: {}\n    # a word on breakers\n\n# end\n"
    old += "aliases:\n  a: b\n"
    path.write_text(old)
    written = write_yaml(scaffold({"LAB_KEY": "k"}), path)
    text = path.read_text()
    assert written.how == "extended"
    assert "added lab: LAB_KEY is set" in written.notes
    config, problems = load(path, env=ENV)
    assert not problems
    assert [entry.name for entry in config.plugins] == ["free_first", "breaker", "lab"]
    assert (config.server.port, dict(config.aliases)) == (9, {"a": "b"})
    assert set(old.split("\n")) <= set(text.split("\n"))
    assert "    # pond: {}  # Pond models\n" in text
    assert write_yaml(scaffold({"LAB_KEY": "k"}), path).how == "kept"
    assert path.read_text() == text


def test_a_comment_that_init_wrote_is_switched_on_in_its_place(furnished: Shelf, tmp_path: Path) -> None:
    path = tmp_path / "routerpool.yaml"
    write_yaml(scaffold({"LAB_KEY": "k"}), path)
    before = path.read_text()
    written = write_yaml(scaffold({"LAB_KEY": "k", "POND_KEY": "k"}), path)
    assert written.how == "extended"
    assert "# pond: {}" not in path.read_text()
    assert "pond" in [entry.name for entry in load(path, env=ENV)[0].plugins]
    assert set(before.split("\n")) - set(path.read_text().split("\n")) == {"  # pond: {}  # Pond models"}


def test_what_the_user_commented_out_stays_off(furnished: Shelf, tmp_path: Path) -> None:
    path = tmp_path / "routerpool.yaml"
    path.write_text("plugins:\n  free_first: {}\n  # lab: {}  (too slow)\n  breaker: {enabled: false}\n")
    written = write_yaml(scaffold({"LAB_KEY": "k"}), path)
    assert [entry.name for entry in load(path, env=ENV)[0].plugins] == ["free_first", "breaker"]
    assert "lab is commented out in the file, so it stays off" in written.notes


def test_a_provider_under_another_name_is_not_added_again(furnished: Shelf, tmp_path: Path) -> None:
    path = tmp_path / "routerpool.yaml"
    path.write_text("plugins:\n  free_first:\n  breaker:\n  work: {use: lab}\n")
    write_yaml(scaffold({"LAB_KEY": "k"}), path)
    assert [entry.name for entry in load(path, env=ENV)[0].plugins] == ["free_first", "breaker", "work"]


@pytest.mark.parametrize("old", ["plugins: {free_first: {}}\n", "{plugins: {free_first: }}\n"])
def test_a_file_that_cannot_take_lines_is_left_alone(furnished: Shelf, tmp_path: Path, old: str) -> None:
    path = tmp_path / "routerpool.yaml"
    path.write_text(old)
    written = write_yaml(scaffold({"LAB_KEY": "k"}), path)
    assert path.read_text() == old
    assert (written.how, written.path.name) == ("beside", "routerpool.yaml.new")
    assert "lab" in parse(written.path.read_text()).tree["plugins"]


def test_a_text_that_looks_like_a_comment_of_ours_is_not_touched(furnished: Shelf, tmp_path: Path) -> None:
    path = tmp_path / "routerpool.yaml"
    old = "plugins:\n  free_first:\n  breaker:\nnote: |\n  # lab: {}  # Lab models\n"
    path.write_text(old)
    assert write_yaml(scaffold({"LAB_KEY": "k"}), path).how == "beside"
    assert path.read_text() == old


@pytest.mark.parametrize(
    "old", ["server: {port: 9}\n", "server: {port: 9}\nplugins:\n", "plugins:\n\n# a\nserver: {port: 9}"]
)
def test_a_file_without_plugins_gets_them(furnished: Shelf, tmp_path: Path, old: str) -> None:
    path = tmp_path / "routerpool.yaml"
    path.write_text(old)
    assert write_yaml(scaffold({"LAB_KEY": "k"}), path).how == "extended"
    config, problems = load(path, env=ENV)
    assert not problems
    assert ([e.name for e in config.plugins], config.server.port) == (["free_first", "breaker", "lab"], 9)


def test_windows_line_ends_stay(furnished: Shelf, tmp_path: Path) -> None:
    path = tmp_path / "routerpool.yaml"
    path.write_bytes(b"plugins:\r\n  free_first: {}\r\n")
    write_yaml(scaffold({"LAB_KEY": "k"}), path)
    raw = path.read_bytes()
    assert b"lab" in raw
    assert raw.count(b"\n") == raw.count(b"\r\n")


def test_force_keeps_the_old_file_beside_the_new_one(furnished: Shelf, tmp_path: Path) -> None:
    path = tmp_path / "routerpool.yaml"
    path.write_text("not: [yaml\n")
    with pytest.raises(ConfigError):
        write_yaml(scaffold(), path)
    assert path.read_text() == "not: [yaml\n"
    assert write_yaml(scaffold(), path, force=True).how == "overwritten"
    assert (tmp_path / "routerpool.yaml.bak").read_text() == "not: [yaml\n"
    assert not load(path, env=ENV)[1]


def test_the_env_example_names_each_key_and_keeps_what_is_there(furnished: Shelf, tmp_path: Path) -> None:
    path = tmp_path / ".env.example"
    path.write_text("LAB_KEY=\nMINE=1")
    assert write_env_example(scaffold(), path).how == "extended"
    assert path.read_text() == "LAB_KEY=\nMINE=1\n\n# The pond\n# POND_KEY=\n"
    assert write_env_example(scaffold(), path).how == "kept"
    assert write_env_example(scaffold(), path, force=True).how == "overwritten"
    assert "# LAB_KEY=" in path.read_text()


def test_the_env_example_says_where_to_get_a_key(shelf: Shelf, tmp_path: Path) -> None:
    source = 'class Plugin(OpenAIProvider):\n    data = "data.yaml"\n'
    data = (
        "title: The lab\nbase_url: https://lab.example/v1\napi_key_env: [LAB_KEY]\nkey_page: https://lab.example/keys\n"
    )
    shelf.put("lab", source)
    (shelf.folder / "data.yaml").write_text(data)
    write_env_example(scaffold(), tmp_path / "x")
    assert "# The lab: get a key at https://lab.example/keys\n# LAB_KEY=\n" in (tmp_path / "x").read_text()


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)


@given(value=values)
def test_what_is_written_inline_is_read_back_as_it_was(value: object) -> None:
    assert parse(f"key: {inline(value)}\n").tree["key"] == value


sections = st.dictionaries(
    st.sampled_from(["free_first", "work", "other", "lab"]),
    st.none()
    | st.dictionaries(st.sampled_from(["a", "b", "use"]), st.sampled_from([1, "x y", "on", [1, 2]]), max_size=2),
    max_size=4,
)


@settings(max_examples=60, deadline=None)
@given(
    plugins=sections,
    before=st.booleans(),
    after=st.booleans(),
    flow=st.sampled_from([False, None]),
    gaps=st.lists(st.tuples(st.integers(0, 30), st.sampled_from(["", "# a word", "  # an indented word"])), max_size=6),
)
def test_no_word_of_a_users_file_is_ever_lost(plugins, before, after, flow, gaps) -> None:
    root = Path(_site.folder)
    path = root / "again.yaml"
    tree = {"server": {"port": 9}} if before else {}
    tree |= {"plugins": plugins} | ({"aliases": {"x": "y"}} if after else {})
    lines = yaml.safe_dump(tree, sort_keys=False, default_flow_style=flow).split("\n")
    for place, text in gaps:
        lines.insert(min(place, len(lines)), text)
    old = "\n".join(lines)
    path.write_text(old)
    if parse(old).tree != tree:
        return
    written = write_yaml(_site.scaffold, path)
    kept = iter(path.read_text().split("\n"))
    assert all(line in kept for line in old.removesuffix("\n").split("\n")), "a line was lost or moved"
    new = parse(path.read_text()).tree
    assert {**new, "plugins": None} == {**tree, "plugins": None}
    assert all((new["plugins"][name] or None) == (section or None) for name, section in plugins.items())
    if written.how == "beside":
        assert path.read_text() == old
        written.path.unlink()


class _Site:
    """What the property test writes from, made once: hypothesis and function fixtures do not go together."""

    folder: Path
    scaffold: Scaffold


_site = _Site()


@pytest.fixture(autouse=True)
def _a_site(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.node.name == "test_no_word_of_a_users_file_is_ever_lost":
        shelf = Shelf.alone(tmp_path / "site", monkeypatch)
        for name in ("free_first", "breaker"):
            shelf.put(name, "pass", summary="a strategy")
        shelf.put("lab", provider("lab", "LAB_KEY"))
        _site.scaffold, _site.folder = scaffold({"LAB_KEY": "k"}), tmp_path
