from __future__ import annotations

import asyncio
from pathlib import Path
from time import monotonic

import pytest

from routerpool.config.reading import from_mapping
from routerpool.errors import PluginError
from routerpool.hooks.detection import Detection, default_plugins, detect, zero_config
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
    for name, place in {"late": 90, "early": 5, "middle": 40}.items():
        shelf.put(name, f"default = {place}")
    shelf.put("zzz", "pass")
    shelf.put("odd", "default = True")
    shelf.put("lab", provider("lab", "LAB_KEY"))
    shelf.put("gguf", sees("tiny", 0.8, "{'model': '/m/tiny.gguf'}"))
    tree, notes = zero_config({"LAB_KEY": "k"})
    assert list(tree["plugins"]) == ["early", "middle", "late", "lab", "tiny"]
    assert tree["plugins"]["tiny"] == {"use": "gguf", "model": "/m/tiny.gguf"}
    assert notes == ["LAB_KEY is set → lab", "tiny is here → tiny"]
    config, problems = from_mapping(tree, env=ENV)
    assert [entry.name for entry in config.plugins] == list(tree["plugins"])
    assert not problems


def test_what_is_no_default_is_not_imported_to_hear_of_it(shelf: Shelf) -> None:
    shelf.put("quiet", "pass\nopen('imported', 'w').close()")
    shelf.put("broken", "default = 10\nimport a_module_that_is_not_there")
    shelf.put("mine", "default = 20")

    assert default_plugins(installed()) == ["mine"]
    assert not Path("imported").exists()


def test_a_last_resort_serves_only_where_nothing_else_can_answer_and_the_first_of_them(shelf: Shelf) -> None:
    shelf.put("sandbox", "last_resort = 20\n" + sees("sandbox"))
    shelf.put("worse", "last_resort = 30")
    shelf.put("gauge", sees("gauge"))  # seen, but it brings no provider
    shelf.put("lab", provider("lab", "LAB_KEY"))
    tree, notes = zero_config({})
    assert list(tree["plugins"]) == ["gauge", "sandbox"]
    assert notes[-1].startswith("no key and no server found → sandbox")
    tree, notes = zero_config({"LAB_KEY": "k"})
    assert list(tree["plugins"]) == ["lab", "gauge"] or list(tree["plugins"]) == ["gauge", "lab"]
    assert not any("sandbox" in note for note in notes)


def test_a_guess_is_told_and_left_off(shelf: Shelf) -> None:
    shelf.put("maybe", provider("maybe", "X") + "\n" + "    " + sees("maybe", 0.3).strip().replace("\n", "\n    "))
    shelf.put("sandbox", "last_resort = 20")
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
