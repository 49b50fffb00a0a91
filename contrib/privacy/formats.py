"""How the formats of secrets are written down: shapes, and functions for what a shape cannot say.

A shape is a text in which `{url:93}` stands for 93 characters of an alphabet (see ALPHABETS), `{uuid}` for a UUID, and
`<<` and `>>` stand around the part that is the secret, where that is not all of it.
"""

from __future__ import annotations

import base64
import json
import random
import re
import string
import zlib
from collections.abc import Callable
from hashlib import sha256
from typing import Literal

import words
from attrs import field, frozen

ALPHABETS = {
    "an": string.ascii_letters + string.digits,
    "url": string.ascii_letters + string.digits + "-_",
    "word": string.ascii_letters + string.digits + "_",
    "b64": string.ascii_letters + string.digits + "+/",
    "b32": string.ascii_uppercase + "234567",
    "b58": "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz",
    "bech": "QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L",
    "hex": "0123456789abcdef",
    "HEX": "0123456789ABCDEF",
    "low": string.ascii_lowercase + string.digits,
    "up": string.ascii_uppercase + string.digits,
    "al": string.ascii_letters,
    "dig": string.digits,
    "django": string.ascii_lowercase + string.digits + "!@#$%^&*(-_=+)",
}
"""Name to characters, as the shapes use them."""

Form = Literal["bare", "named", "block", "line"]
Make = Callable[[random.Random], str]
OPEN, CLOSE, BEGIN, END = "\ue000", "\ue001", "\ue002", "\ue003"
"""Private characters around the secret itself, and around the whole value that it is part of."""
MARKS = {ord(mark): None for mark in (OPEN, CLOSE, BEGIN, END)}
"""What takes the marks out, for `str.translate`."""


@frozen
class Kind:
    """One kind of secret: its shapes, how it can be told, and the names it is assigned to.

    `bare` can be told by itself; `named` only by the name beside it; `block` has several lines; `line` is a whole line
    with its own context (a command, a connection string). `known` is false where no rule is expected.
    """

    name: str
    shapes: tuple[str | Make, ...]
    form: Form = "bare"
    names: tuple[str, ...] = ("API_KEY", "TOKEN", "SECRET", "ACCESS_TOKEN")
    known: bool = True


@frozen
class Secret:
    """One secret: the value as it is written, with marks around it and around the part that must not be seen."""

    kind: Kind
    name: str
    marked: str = field(repr=False)

    @property
    def value(self) -> str:
        """The value as it is written."""
        return self.marked.translate(MARKS)


def filled(rng: random.Random, shape: str) -> str:
    """The shape with its holes filled."""

    def hole(match: re.Match[str]) -> str:
        if match[1] == "uuid":
            return words.uuid(rng)
        if match[1] in TEXTS:
            return TEXTS[match[1]](rng)
        if match[1] == "password":
            return words.password(rng, match[2] or "")
        low, _, high = match[2].partition("-")
        return "".join(rng.choices(ALPHABETS[match[1]], k=rng.randint(int(low), int(high or low))))

    return re.sub(r"\{(\w+)(?::([\w-]+))?\}", hole, shape).replace("<<", OPEN).replace(">>", CLOSE)


TEXTS: dict[str, Make] = {"host": words.host, "user": words.user, "db": words.noun, "words": words.phrase}


def _base62(number: int, width: int) -> str:
    digits = string.digits + string.ascii_uppercase + string.ascii_lowercase
    text = ""
    for _ in range(width):
        number, place = divmod(number, 62)
        text = digits[place] + text
    return text


def checked(prefix: str, length: int = 30) -> Make:
    """GitHub's and npm's form: a prefix, random characters, and their CRC-32 in six base-62 digits."""

    def make(rng: random.Random) -> str:
        body = filled(rng, f"{{an:{length}}}")
        return prefix + body + _base62(zlib.crc32(body.encode()), 6)

    return make


def base64url(data: bytes | str) -> str:
    """Base64 for URLs without padding, as JWTs use it."""
    return base64.urlsafe_b64encode(data.encode() if isinstance(data, str) else data).rstrip(b"=").decode()


def jwt(rng: random.Random) -> str:
    """A JSON web token with claims of a person and a signature of 32 random bytes."""
    head = json.dumps({"alg": rng.choice(["HS256", "RS256", "ES256"]), "typ": "JWT"}, separators=(",", ":"))
    claims = {"sub": filled(rng, "{dig:10}"), "name": words.user(rng), "iat": rng.randint(1_6 * 10**8, 18 * 10**8)}
    body = json.dumps(claims, separators=(",", ":"))
    return f"{base64url(head)}.{base64url(body)}.{base64url(rng.randbytes(32))}"


def pem(label: str, size: int, head: bytes = b"") -> Make:
    """A private key block: DER-like random bytes after the fixed first ones, 64 characters a line."""

    def make(rng: random.Random) -> str:
        text = base64.b64encode(head + rng.randbytes(size)).decode()
        lines = "\n".join(text[at : at + 64] for at in range(0, len(text), 64))
        return f"-----BEGIN {label}-----\n{lines}\n-----END {label}-----"

    return make


def service_account(rng: random.Random) -> str:
    """Google's service account file: JSON whose private key has its line ends escaped."""
    account = {
        "type": "service_account",
        "project_id": f"{words.noun(rng)}-prod-{rng.randint(100, 999)}",
        "private_key_id": filled(rng, "{hex:40}"),
        "private_key": OPEN + pem("PRIVATE KEY", 900, b"\x30\x82")(rng) + CLOSE + "\n",
        "client_email": f"{words.noun(rng)}@{words.noun(rng)}-prod.iam.gserviceaccount.com",
    }
    return json.dumps(account, indent=2, ensure_ascii=False)


def kubernetes_secret(rng: random.Random) -> str:
    """A Secret manifest, whose values are base64 of passwords."""
    value = base64.b64encode(words.password(rng, "").encode()).decode()
    return (
        f"apiVersion: v1\nkind: Secret\nmetadata:\n  name: {words.noun(rng)}-credentials\ntype: Opaque\n"
        f"data:\n  password: {OPEN}{value}{CLOSE}"
    )


def encoded(prefix: str, head: str, size: int) -> Make:
    """A prefix and the base64 of JSON or text that begins alike for everybody."""
    return lambda rng: prefix + base64.b64encode(head.encode() + rng.randbytes(size)).decode().rstrip("=")


def mapbox(rng: random.Random) -> str:
    """Mapbox's secret token: JSON with user and id, and 22 characters."""
    claims = json.dumps({"u": words.user(rng), "a": "c" + filled(rng, "{low:24}")}, separators=(",", ":"))
    return f"sk.{base64url(claims)}.{filled(rng, '{url:22}')}"


def discord(rng: random.Random) -> str:
    """Discord's bot token: the bot's id in base64, a time, a signature."""
    return base64url(str(rng.randint(10**18, 10**19 - 1))) + "." + filled(rng, "{url:6}.{url:38}")


def sentry_org(rng: random.Random) -> str:
    """Sentry's organisation token: base64 of JSON, and 43 characters."""
    claims = json.dumps({"iat": rng.random() + 1.7e9, "url": "https://sentry.io", "org": words.noun(rng)})
    return f"sntrys_{base64.b64encode(claims.encode()).decode()}_{filled(rng, '{b64:43}')}"


def basic(rng: random.Random) -> str:
    """An Authorization header with user and password in base64."""
    pair = f"{words.user(rng)}:{words.password(rng, '')}".encode()
    return f"Authorization: Basic {OPEN}{base64.b64encode(pair).decode()}{CLOSE}"


def wif(rng: random.Random) -> str:
    """A Bitcoin key in wallet import format: base 58 of version, 32 bytes and the checksum of both."""
    body = b"\x80" + rng.randbytes(32) + b"\x01"
    number = int.from_bytes(body + sha256(sha256(body).digest()).digest()[:4])
    text = ""
    while number:
        number, place = divmod(number, 58)
        text = ALPHABETS["b58"][place] + text
    return text
