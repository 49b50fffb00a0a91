"""The server as a process: it says where it listens, drains when it is told to stop, and refuses what is unsafe."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from attrs import define, evolve

from routerpool.config.sections import ApiKey, ServerConfig
from routerpool.errors import ConfigError
from routerpool.process.standalone import check_exposure
from routerpool.testing.upstream import Upstream

from ..support.house import CHAT, events, until

pytestmark = pytest.mark.anyio

START_SECONDS = 20.0
"""A process has this long to come up, or to go when nothing keeps it."""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@define
class Served:
    """A server in a process of its own."""

    process: Process
    url: str

    def signal(self, number: signal.Signals = signal.SIGTERM) -> None:
        self.process.send_signal(number)

    async def end(self) -> tuple[int | None, str]:
        """Its exit code and everything it wrote to stderr, once it has ended."""
        async with asyncio.timeout(START_SECONDS):
            _, said = await self.process.communicate()
        return self.process.returncode, said.decode()


async def start(
    folder: Path, config: Mapping[str, Any], *options: str, env: Mapping[str, str] | None = None
) -> Process:
    """`routerpool serve` with this configuration, and with nothing else of this machine's."""
    file = folder / "routerpool.yaml"
    file.write_text(json.dumps({"store": "sqlite://", **config}), encoding="utf-8")  # JSON is YAML
    command = [
        sys.executable,
        "-W",
        "error",
        "-m",
        "routerpool",
        "--config",
        str(file),
        "serve",
        "--port",
        "0",
        *options,
    ]
    own = {
        "HOME": str(folder),
        "PATH": os.environ.get("PATH", ""),
        "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
        **(env or {}),
    }
    return await asyncio.create_subprocess_exec(*command, cwd=folder, env=own, stdout=PIPE, stderr=PIPE)


async def run_to_end(folder: Path, config: Mapping[str, Any], *options: str) -> tuple[int | None, str]:
    """The exit code and the stderr of a server that cannot start."""
    process = await start(folder, config, *options)
    try:
        return await Served(process, "").end()
    finally:
        if process.returncode is None:
            process.kill()


@asynccontextmanager
async def serving(
    folder: Path, up: Upstream, *, server: Mapping[str, Any] | None = None, env: Mapping[str, str] | None = None
) -> AsyncIterator[Served]:
    """A server over provider `a`, from the moment in which it says that it is ready."""
    entry = {"use": "openai_compatible", "base_url": up.base_url("a"), "models": ["m1"]}
    process = await start(folder, {"plugins": {"a": entry}, "server": server or {}}, env=env)
    assert process.stdout is not None
    try:
        async with asyncio.timeout(START_SECONDS):
            first = (await process.stdout.readline()).decode()
        found = re.search(r" (https?://\S+)$", first.rstrip())
        if found is None:
            process.kill()
            pytest.fail(f"it said {first!r} and {(await process.communicate())[1].decode()!r}")
        yield Served(process, found[1])
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def ask(client: aiohttp.ClientSession, url: str, **more: Any) -> tuple[int, bytes]:
    async with client.post(f"{url}/v1/chat/completions", json={**CHAT, **more}) as response:
        return response.status, await response.read()


# Its life


async def test_it_says_where_it_listens_once_it_answers_and_ends_with_zero(tmp_path: Path) -> None:
    async with Upstream() as up, serving(tmp_path, up, server={"base_path": "/llm"}) as served:
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/llm", served.url)
        async with aiohttp.ClientSession() as client:
            assert await ask(client, served.url) == (200, up.expected("a", "m1"))
            assert await ask(client, served.url, stream=True) == (200, up.expected("a", "m1", True))
        served.signal()
        assert await served.end() == (0, "")


async def takes_requests(client: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with client.get(f"{url}/health") as response:
            return response.status == 200
    except aiohttp.ClientError:
        return False


async def test_a_second_ctrl_c_ends_at_once(tmp_path: Path) -> None:
    async with Upstream() as up, serving(tmp_path, up, server={"drain_seconds": 60}) as served:
        up.hold("a")
        async with aiohttp.ClientSession() as client:
            asked = asyncio.ensure_future(client.post(f"{served.url}/v1/chat/completions", json=CHAT))
            await up.wait_for("a", chat=1)
            served.signal(signal.SIGINT)
            async with asyncio.timeout(START_SECONDS):
                while await takes_requests(client, served.url):
                    await asyncio.sleep(0.02)
            served.signal(signal.SIGINT)
            code, _ = await served.end()
            assert code == -signal.SIGINT
            with pytest.raises(aiohttp.ClientError):
                await asked


@pytest.mark.parametrize(("pid", "seconds"), [(1, 8.0), (2, 30.0)])
def test_a_containers_first_process_drains_within_what_docker_waits(pid: int, seconds: float) -> None:
    script = (
        f"import os; os.getpid = lambda: {pid}\n"
        "from routerpool.config import ServerConfig\n"
        "print(ServerConfig().drain, ServerConfig(drain_seconds=3.0).drain)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(seconds), "3.0"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_told_to_stop_it_lets_open_streams_end_and_takes_nobody_new(
    tmp_path: Path, number: signal.Signals
) -> None:
    async with Upstream() as up, serving(tmp_path, up) as served, aiohttp.ClientSession() as client:
        up.text("a", "word " * 30, 30)
        up.pace("a", 0.04)
        async with client.post(f"{served.url}/v1/chat/completions", json={**CHAT, "stream": True}) as response:
            body = await response.content.readuntil(b"\n\n")
            served.signal(number)
            port = int(served.url.rpartition(":")[2])
            await until(lambda: refused(port))
            assert served.process.returncode is None
            assert up.seen("a").completed == 0, "the stream is still under way"
            body += await response.read()
        assert body == up.expected("a", "m1", True)
        code, said = await served.end()
        assert code == 0
        assert said.endswith("stopping: waiting up to 30 s for 1 stream; Ctrl-C ends them at once\n")


def refused(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


async def test_a_stream_that_does_not_end_in_time_is_cut_without_the_marker(tmp_path: Path) -> None:
    async with Upstream() as up, serving(tmp_path, up, server={"drain_seconds": 0.3}) as served:
        up.always("a", "stall")
        async with aiohttp.ClientSession() as client:
            async with client.post(f"{served.url}/v1/chat/completions", json={**CHAT, "stream": True}) as response:
                await response.content.readuntil(b"\n\n")
                served.signal()
                try:
                    rest = await response.read()
                except aiohttp.ClientPayloadError:
                    rest = b""
            assert b"[DONE]" not in rest
        await up.wait_for("a", aborts=1)
        code, said = await served.end()
        assert (code, "Traceback" in said) == (0, False)


async def test_a_second_signal_while_it_drains_does_no_harm(tmp_path: Path) -> None:
    async with Upstream() as up, serving(tmp_path, up) as served, aiohttp.ClientSession() as client:
        up.text("a", "word " * 20, 20)
        up.pace("a", 0.04)
        async with client.post(f"{served.url}/v1/chat/completions", json={**CHAT, "stream": True}) as response:
            body = await response.content.readuntil(b"\n\n")
            served.signal()
            served.signal()
            body += await response.read()
        assert body == up.expected("a", "m1", True)
        code, said = await served.end()
        assert code == 0
        assert said.endswith("stopping: waiting up to 30 s for 1 stream; Ctrl-C ends them at once\n")


async def test_a_client_that_leaves_takes_its_upstream_with_it_on_this_loop_too(tmp_path: Path) -> None:
    async with Upstream() as up, serving(tmp_path, up) as served:
        up.always("a", "stall")
        reader, writer = await asyncio.open_connection("127.0.0.1", int(served.url.rpartition(":")[2]))
        body = json.dumps({**CHAT, "stream": True}).encode()
        head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        await reader.readuntil(b"data: ")
        writer.transport.abort()
        await up.wait_for("a", timeout=1, aborts=1)


async def test_a_broken_stream_ends_in_an_error_event_in_a_process_too(tmp_path: Path) -> None:
    async with Upstream() as up, serving(tmp_path, up) as served, aiohttp.ClientSession() as client:
        up.always("a", "midclose")
        _, body = await ask(client, served.url, stream=True)
        *_, last = events(body)
        assert last["error"]["code"] == "upstream_interrupted"


# What it refuses


async def test_without_keys_it_does_not_listen_beyond_this_machine(tmp_path: Path) -> None:
    code, said = await run_to_end(tmp_path, {"plugins": {}}, "--host", "0.0.0.0")
    assert code == 2
    assert "server.host" in said
    assert "server.api_keys" in said
    assert "Traceback" not in said


KEY = ApiKey(name="k", sha256="0" * 64)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "lab.example"])
def test_what_opens_a_server_to_others_is_a_key_or_a_word(host: str) -> None:
    with pytest.raises(ConfigError, match=r"server\.host: listening on"):
        check_exposure(ServerConfig(), host)
    for config in (ServerConfig(api_keys=(KEY,)), ServerConfig(allow_unauthenticated=True)):
        check_exposure(config, host)
    check_exposure(ServerConfig(), "127.0.0.1")
    check_exposure(ServerConfig(), "localhost")


@pytest.mark.parametrize("plane", ["host_keys", "admin_keys"])
def test_keys_of_every_plane_are_keys(plane: str) -> None:
    check_exposure(evolve(ServerConfig(), **{plane: (KEY,)}), "0.0.0.0")


async def test_a_port_that_is_taken_is_told_with_the_cure(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, said = await run_to_end(tmp_path, {"plugins": {}}, "--port", str(port))
    assert code == 1
    assert f"port {port} of 127.0.0.1 is taken" in said
    assert "--port" in said
    assert "Traceback" not in said


async def test_an_address_of_another_machine_is_told(tmp_path: Path) -> None:
    config = {"plugins": {}, "server": {"allow_unauthenticated": True, "host": "192.0.2.1"}}
    code, said = await run_to_end(tmp_path, config)
    assert code == 1
    assert "cannot listen on 192.0.2.1" in said
    assert "Traceback" not in said


# TLS and keys


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("the openssl command is not here to make a certificate")
    folder = tmp_path_factory.mktemp("certificate")
    cert, key = folder / "cert.pem", folder / "key.pem"
    command = [
        openssl,
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "1",
    ]
    command += [
        "-subj",
        "/CN=localhost",
        "-addext",
        "subjectAltName=IP:127.0.0.1",
        "-keyout",
        str(key),
        "-out",
        str(cert),
    ]
    subprocess.run(command, check=True, capture_output=True)
    return cert, key


async def test_it_speaks_tls_with_the_certificate_it_is_given(tmp_path: Path, certificate: tuple[Path, Path]) -> None:
    cert, key = certificate
    async with Upstream() as up, serving(tmp_path, up, server={"tls": {"cert": str(cert), "key": str(key)}}) as served:
        assert served.url.startswith("https://127.0.0.1:")
        trusting = aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=str(cert)))
        async with aiohttp.ClientSession(connector=trusting) as client:
            for stream in (False, True):
                assert await ask(client, served.url, stream=stream) == (200, up.expected("a", "m1", stream))
        served.signal()
        assert (await served.end())[0] == 0


@pytest.mark.parametrize("wrong", ["cert", "key", "both swapped"])
async def test_a_certificate_that_cannot_be_read_is_a_mistake_in_the_configuration(
    tmp_path: Path, certificate: tuple[Path, Path], wrong: str
) -> None:
    cert, key = certificate
    tls = {"cert": str(cert), "key": str(key)}
    tls |= {"cert": str(key), "key": str(cert)} if wrong == "both swapped" else {wrong: str(tmp_path / "nowhere.pem")}
    code, said = await run_to_end(tmp_path, {"plugins": {}, "server": {"tls": tls}})
    assert code == 2
    assert "server.tls" in said
    assert "Traceback" not in said


async def test_a_key_in_a_malformed_header_stays_out_of_the_log(tmp_path: Path) -> None:
    key = "rp-user-3b1f0c77e2"
    async with Upstream() as up, serving(tmp_path, up, server={"api_keys": ["${KEY}"]}, env={"KEY": key}) as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(served.url.rpartition(":")[2]))
        writer.write(f"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nAuthorization : Bearer {key}\r\n\r\n".encode())
        assert b" 400 " in await reader.readline()
        writer.transport.abort()
        served.signal()
        _, said = await served.end()
        assert key not in said


async def test_a_packed_body_is_refused_in_our_words_whatever_packed_it(tmp_path: Path) -> None:
    head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    head += "Content-Type: application/json\r\n"
    cut = gzip.compress(b"{}" * 100_000)[:-20] + b"x" * 30
    bodies = {"deflate": b"garbage!!", "gzip": cut, "x-gzip": cut, "br": b"z", "zstd": b"z", "identity, br": b"z"}
    async with Upstream() as up, serving(tmp_path, up) as served:
        for coding, body in bodies.items():
            reader, writer = await asyncio.open_connection("127.0.0.1", int(served.url.rpartition(":")[2]))
            framed = f"Content-Encoding: {coding}\r\nContent-Length: {len(body)}\r\n\r\n"
            writer.write((head + framed).encode() + body)
            answer = await reader.read()
            assert answer.startswith(b"HTTP/1.1 415 ")
            assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == "unsupported_media_type"
            writer.transport.abort()
        served.signal()
        _, said = await served.end()
    assert "Traceback" not in said
    assert len(said.splitlines()) <= len(bodies)


async def command(*options: str, folder: Path, env: Mapping[str, str] | None = None) -> tuple[int | None, str]:
    """The exit code and the error of a command that asks a server."""
    own = {"HOME": str(folder), "PATH": os.environ["PATH"], **(env or {})}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "routerpool", *options), cwd=folder, env=own, stdout=PIPE, stderr=PIPE
    )
    async with asyncio.timeout(START_SECONDS):
        _, said = await process.communicate()
    return process.returncode, said.decode()


async def test_a_command_says_what_is_wrong_with_the_tls_of_the_server_that_it_asks(
    tmp_path: Path, certificate: tuple[Path, Path]
) -> None:
    cert, key = certificate
    async with Upstream() as up:
        async with serving(tmp_path, up, server={"tls": {"cert": str(cert), "key": str(key)}}) as served:
            code, said = await command("models", "--url", served.url, folder=tmp_path)
            assert code != 0
            assert "is not trusted here; set SSL_CERT_FILE" in said
            trusting = {"SSL_CERT_FILE": str(cert)}
            assert (await command("models", "--url", served.url, folder=tmp_path, env=trusting))[0] == 0
        async with serving(tmp_path, up) as served:
            code, said = await command("models", "--url", served.url.replace("http:", "https:"), folder=tmp_path)
            assert code != 0
            assert "does not speak HTTPS; write it as http://" in said
