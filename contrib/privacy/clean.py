"""Clean texts: real ones that lie on this machine, read when they are measured, and made-up ones that look like keys.

Nothing of the real ones is kept here. They are windows of the standard library's and the installed packages' sources,
of licences and metadata. The made-up ones are what a scanner likes to be wrong about: hashes, UUIDs, lock files, public
keys, placeholders, code and prose that talk of passwords without having one.
"""

from __future__ import annotations

import base64
import json
import random
import sysconfig
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

from attrs import field, frozen
from formats import base64url
from material import code, env_lines, logs, pairs, stamp
from words import PROSE, host, noun, phrase, prose, user, uuid

__all__ = ["MADE", "Clean", "clean_texts"]

WINDOW = 2000
"""Characters of a real text that are looked at at once."""


@frozen
class Clean:
    """A text without a secret, and what it is."""

    source: str
    text: str = field(repr=False)


def _hex(rng: random.Random, length: int) -> str:
    return f"{rng.getrandbits(4 * length):0{length}x}"


def _b64(rng: random.Random, size: int) -> str:
    return base64.b64encode(rng.randbytes(size)).decode()


def _lines(count: int, line: Callable[[], str]) -> str:
    return "\n".join(line() for _ in range(count))


def _version(rng: random.Random) -> str:
    return f"{rng.randrange(9)}.{rng.randrange(30)}.{rng.randrange(20)}"


def _armoured(rng: random.Random, label: str, size: int) -> str:
    text = _b64(rng, size)
    lines = "\n".join(text[at : at + 64] for at in range(0, len(text), 64))
    return f"-----BEGIN {label}-----\n{lines}\n-----END {label}-----"


def _npm_lock(rng: random.Random) -> str:
    packages = {
        f"node_modules/{noun(rng)}-{noun(rng)}": {
            "version": _version(rng),
            "resolved": f"https://packages.example.org/{noun(rng)}/-/{noun(rng)}-{_version(rng)}.tgz",
            "integrity": f"sha512-{_b64(rng, 64)}",
        }
        for _ in range(5)
    }
    return json.dumps({"lockfileVersion": 3, "packages": packages}, indent=2)


def _python_lock(rng: random.Random) -> str:
    return _lines(
        5,
        lambda: (
            f'[[package]]\nname = "{noun(rng)}"\nversion = "{_version(rng)}"\nsdist = {{ url = "https://files.example.org/'
            f'packages/{_hex(rng, 2)}/{_hex(rng, 2)}/{_hex(rng, 60)}/{noun(rng)}-{_version(rng)}.tar.gz", '
            f'hash = "sha256:{_hex(rng, 64)}", size = {rng.randrange(10**6)} }}\n'
        ),
    )


def _notebook_output(rng: random.Random) -> str:
    image = "iVBORw0KGgo" + _b64(rng, 600)
    return json.dumps({"cells": [{"outputs": [{"data": {"image/png": image}, "metadata": {}}], "source": ["plot()"]}]})


def _placeholders(rng: random.Random) -> str:
    name = noun(rng).upper()
    values = (
        f"your-{noun(rng)}-api-key-here", "<YOUR_API_KEY>", f"${{{name}_API_KEY}}", "changeme",
        "xxxxxxxxxxxxxxxxxxxx", "sk-...", "", "REPLACE_ME", "********",
        f"{{{{ vault_{noun(rng)}_password }}}}", "$(pass show api)", "None", "null",
        "ghp_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", "sk-your-key", "AKIAXXXXXXXXXXXXXXXX", "[REDACTED:api-key]", "...",
    )  # fmt: skip
    names = ("API_KEY", "SECRET_KEY", "PASSWORD", "ACCESS_TOKEN", "CLIENT_SECRET", "AUTH_TOKEN", "PRIVATE_KEY")
    return _lines(8, lambda: f"{noun(rng).upper()}_{rng.choice(names)}={rng.choice(values)}")


def _about_passwords(rng: random.Random) -> str:
    n, m = noun(rng), noun(rng)
    stock = (
        f'password = getpass.getpass("Password for {n}: ")',
        f'api_key = os.environ["{n.upper()}_API_KEY"]',
        'token = request.headers.get("Authorization", "").removeprefix("Bearer ")',
        "def verify_password(plain: str, hashed_password: str) -> bool:",
        f"const apiKey = process.env.{n.upper()}_API_KEY ?? config.get('{n}.apiKey');",
        f"secret = secrets.token_urlsafe({rng.randrange(16, 64)})",
        "self.access_token = response.json()['access_token']",
        f"headers = {{'Authorization': f'Bearer {{self.token}}', 'X-Api-Key': settings.{n}_api_key}}",
        f'password_field = "user_{n}_password_confirmation"',
        f'String password = System.getenv("{n.upper()}_PASSWORD");',
        f"  password: ${{{{ secrets.{n.upper()}_PASSWORD }}}}",
        f'cache_key = f"{n}:{{user_id}}:{m}:{{version}}"',
        f"  secretKeyRef:\n    name: {n}-credentials\n    key: {m}-password",
        f'variable "{n}_password" {{\n  type      = string\n  sensitive = true\n}}',
        f'"password": {{"type": "string", "minLength": {rng.randrange(8, 20)}, "format": "password"}}',
        f"token_budget = {rng.randrange(1000, 200000)}  # tokens per minute, key is the model",
        f'parser.add_argument("--{n}-token", default=None, help="token for the {m} service")',
        f'foreign_key = "{n}_{m}_id_fkey"; sort_key = "{n}#2026-0{rng.randrange(1, 9)}-11"',
        f"if token == TokenType.IDENTIFIER and token.value == '{n}': key, value = token.value, {rng.randrange(99)}",
    )
    return "\n".join(rng.sample(stock, 8))


def _public_keys(rng: random.Random) -> str:
    jwk = {"kty": "RSA", "kid": _hex(rng, 32), "use": "sig", "n": base64url(rng.randbytes(256)), "e": "AQAB"}
    return rng.choice(
        [
            f"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI{_b64(rng, 32)[:-2]} {user(rng)}@{noun(rng)}",
            f"{host(rng)} ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABgQ{_b64(rng, 380)}",
            json.dumps({"keys": [jwk]}, indent=2),
            _armoured(rng, "CERTIFICATE", 700),
            _armoured(rng, "PUBLIC KEY", 290),
            _armoured(rng, "PGP SIGNATURE", 400),
        ]
    )


def _manifest(rng: random.Random) -> str:
    image = f"registry.example.com/{noun(rng)}/{noun(rng)}@sha256:{_hex(rng, 64)}"
    return (
        f"apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: {noun(rng)}\n  uid: {uuid(rng)}\n  annotations:\n"
        f"    checksum/config: {_hex(rng, 64)}\nspec:\n  replicas: {rng.randrange(9)}\n  template:\n    spec:\n"
        f"      containers:\n      - image: {image}\n        envFrom:\n        - secretRef:\n"
        f"            name: {noun(rng)}-secrets\n"
    )


def _sum(rng: random.Random) -> str:
    path = f"github.com/{noun(rng)}/{noun(rng)} v{_version(rng)}"
    return f"{path} h1:{_b64(rng, 32)}\n{path}/go.mod h1:{_b64(rng, 32)}"


def _named_like_keys(rng: random.Random) -> str:
    """Identifiers, page tokens, fingerprints and keys made to be public: their names sound like secrets."""
    n = noun(rng)
    stock = (
        f'"idempotency_key": "{uuid(rng)}"',
        f'"nextPageToken": "{base64url(rng.randbytes(24))}"',
        f'"partition_key": "{n}#{rng.randrange(10**8)}"',
        f'"s3_key": "{n}/2026/{rng.randrange(1, 13):02}/{_hex(rng, 32)}.parquet"',
        f"kms_key_id = {uuid(rng)}",
        f'"kid": "{_hex(rng, 40)}"',
        f"key fingerprint: SHA256:{_b64(rng, 32)[:-1]}",
        f'publishableKey: "pk_live_{_hex(rng, 24)}"',
        f'data-sitekey="6L{base64url(rng.randbytes(28))}"',
        f'<meta name="google-site-verification" content="{base64url(rng.randbytes(32))}">',
        f"ContinuationToken: {_b64(rng, 48)}",
        f'"cacheKey": "{_hex(rng, 64)}"',
        f"primary_key={rng.randrange(10**12)}",
        f'"tokenizer_hash": "{_hex(rng, 40)}"',
        f"restore-keys: {n}-linux-{_hex(rng, 64)}",
        f"AUTH_PROVIDER_ID={uuid(rng)}",
        f"GITHUB_CLIENT_ID=Iv1.{_hex(rng, 16)}",
        f'"author_key": "OL{rng.randrange(10**6)}A"',
        f'"authToken": null, "secretName": "{n}-tls", "keyVaultName": "kv-{n}-prod"',
        f"password_hash_algorithm: argon2id, key_length: {rng.randrange(16, 64)}",
    )
    return "\n".join(rng.sample(stock, 8))


MADE: dict[str, Callable[[random.Random], str]] = {
    **{f"prose, {language}": lambda rng, language=language: prose(rng, 8, language) for language in PROSE},  # type: ignore[misc]  # bound early
    "lock file of npm": _npm_lock,
    "lock file of Python": _python_lock,
    "checksums of Go": lambda rng: _lines(8, lambda: _sum(rng)),
    "checksums of Rust": lambda rng: _lines(
        6, lambda: f'[[package]]\nname = "{noun(rng)}"\nchecksum = "{_hex(rng, 64)}"\n'
    ),
    "hashes": lambda rng: _lines(
        12, lambda: f"{_hex(rng, rng.choice([32, 40, 64, 128]))}  {noun(rng)}-{_version(rng)}.tar.gz"
    ),
    "UUIDs": lambda rng: _lines(15, lambda: f"{uuid(rng)},{noun(rng)},{rng.randrange(999)}"),
    "git log": lambda rng: _lines(
        5, lambda: f"commit {_hex(rng, 40)}\nAuthor: {user(rng)}\n\n    Fix {phrase(rng, 4)}\n"
    ),
    "diff": lambda rng: (
        f"index {_hex(rng, 7)}..{_hex(rng, 7)} 100644\n" + "\n".join(f"+{line}" for line in code(rng, 3))
    ),
    "log": lambda rng: "\n".join(logs(rng, 15)),
    "code": lambda rng: "\n".join(code(rng, 6)),
    "settings": lambda rng: "\n".join(env_lines(rng, 20)),
    "settings as JSON": lambda rng: json.dumps(dict(pairs(rng, 20)), indent=1),
    "placeholders": _placeholders,
    "code about passwords": _about_passwords,
    "names like those of keys": _named_like_keys,
    "public keys": _public_keys,
    "manifest": _manifest,
    "notebook with a picture": _notebook_output,
    "data URL": lambda rng: f"<img alt='{noun(rng)}' src='data:image/png;base64,iVBORw0KGgo{_b64(rng, 400)}'>",
    "script with integrity": lambda rng: _lines(
        4, lambda: f'<script src="/{noun(rng)}.{_hex(rng, 8)}.js" integrity="sha384-{_b64(rng, 48)}"></script>'
    ),
    "model's answer": lambda rng: json.dumps(
        {
            "id": f"chatcmpl-{base64url(rng.randbytes(21))}",
            "system_fingerprint": f"fp_{_hex(rng, 10)}",
            "created": 1770000000,
        }
    ),
    "tool calls": lambda rng: json.dumps(
        [
            {
                "id": f"call_{base64url(rng.randbytes(18))}",
                "type": "function",
                "function": {"name": noun(rng), "arguments": "{}"},
            }
        ]
    ),
    "container list": lambda rng: _lines(
        8, lambda: f"{_hex(rng, 12)}   {noun(rng)}:{_version(rng)}   Up {rng.randrange(60)} hours"
    ),
    "responses' headers": lambda rng: (
        f'HTTP/2 200\netag: W/"{_hex(rng, 40)}"\nx-request-id: {uuid(rng)}\nx-amz-id-2: {_b64(rng, 56)}\n'
        f"x-amz-request-id: {_hex(rng, 16).upper()}\ncf-ray: {_hex(rng, 16)}-FRA\ndate: {stamp(rng)}"
    ),
    "resource names": lambda rng: _lines(
        6, lambda: f"arn:aws:iam::{rng.randrange(10**11, 10**12)}:role/{noun(rng)}-{noun(rng)}/{_hex(rng, 17)}"
    ),
    "URLs": lambda rng: _lines(
        6, lambda: f"https://{host(rng)}/{noun(rng)}/{base64url(rng.randbytes(8))}?v={_hex(rng, 8)}#{noun(rng)}"
    ),
    "hex dump": lambda rng: _lines(
        10, lambda: f"{rng.getrandbits(32):08x}  {rng.randbytes(16).hex(' ')}  |{noun(rng)}|"
    ),
    "tables of numbers": lambda rng: _lines(12, lambda: ",".join(f"{rng.random() * 1000:.6f}" for _ in range(6))),
    "chat about keys": lambda rng: (
        f"user: how do I rotate the API key of {noun(rng)}?\nassistant: Open Settings, then API keys, and choose "
        f"Rotate. The password policy asks for {rng.randrange(8, 30)} characters. Never paste the secret key here: "
        f"keep it in {noun(rng).upper()}_TOKEN.\n"
    ),
}
"""By name: makers of texts without a secret."""


def _files(seed: int) -> list[Path]:
    """Readable files in an order that a few more or less of them hardly change."""
    names = {".py", ".pyi", ".txt", ".md", ".rst", ".toml", ".json", ".c", ".h", ".js", ".css", ".html", ".yaml", ""}
    found: dict[str, Path] = {}
    for root in (Path(sysconfig.get_path("stdlib")), Path(sysconfig.get_path("purelib"))):
        for path in root.rglob("*"):
            place = path.relative_to(root)
            tested = any(part in {"test", "tests", "idle_test", "lib2to3", "__pycache__"} for part in place.parts)
            ours = any("routerpool" in part for part in place.parts)
            if not tested and not ours and path.suffix in names and path.is_file():
                found[f"{seed}/{root.name}/{place}"] = path
    return [found[name] for name in sorted(found, key=lambda name: sha256(name.encode()).digest())]


def _windows(seed: int, count: int) -> Iterator[Clean]:
    for path in _files(seed):
        if count <= 0:
            return
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            continue
        if len(text.strip()) < 200:
            continue
        start = random.Random(f"{seed}/{len(text)}").randrange(max(1, len(text) - WINDOW))
        kind = path.suffix or path.name
        yield Clean(f"real {kind}", text[start : start + WINDOW])
        count -= 1


def clean_texts(seed: int, real: int = 600, made: int = 600) -> Iterator[Clean]:
    """First `real` windows of files on this machine, one a file, then `made` texts, all makers in turn."""
    yield from _windows(seed, real)
    makers = list(MADE.items())
    for number in range(made):
        source, make = makers[number % len(makers)]
        yield Clean(source, make(random.Random(f"{seed}/{source}/{number}")))
