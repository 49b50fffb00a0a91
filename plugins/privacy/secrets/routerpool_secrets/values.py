"""Whether what has the form of a secret is one: entropy, well-known examples, and what code says in its place."""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping
from itertools import pairwise

from routerpool.privacy import inflated

__all__ = ["JUDGES", "LONGEST_NAME", "entropy_of", "is_example", "names_no_secret", "text_of"]

EXAMPLES = frozenset(
    text.lower().encode()
    for text in (
        "AKIAIOSFODNN7EXAMPLE",
        "AKIAI44QH8DHBEXAMPLE",
        "ASIAIOSFODNN7EXAMPLE",
        "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        "je7MtGbClwBF/2Zp9Utk/h3yCo8nvbEXAMPLEKEY",
        "sk_test_4eC39HqLyjWDarjtT1zdp7dc",
        "sk_test_BQokikJOvBiI2HlWgH4olfQ2",
        "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==",
        "C2y6yDjf5/R+ob0N8A7Cgv30VRDJIWEHLM+4QDU5DE2nQ9nDuVTqobD4b8mGGyPMbIZnqyMsEcaGQy67XIw/Jw==",
        "dQw4w9WgXcQ",
    )
)
"""Values that vendors print in their manuals and emulators for everybody to use."""

JWT_IO = (b"eyjhbgcioijiuzi1niisinr5cci6ikpxvcj9.eyjzdwiioiixmjm0nty3odkwiiwibmftzsi6ikpvag4gr",)
"""How the tokens of jwt.io's first page begin."""

TELLTALE = re.compile(
    rb"example|changeme|change[_-]me|placeholder|your[_-]|[_-]your|my[_-]?(?:secret|token|key|pass)|dummy|redacted"
    rb"|insert|replace|xxxx|\*\*\*\*|\.\.\.|(?:0123|1234)(?:4?567|abcd)|abcdef|deadbeef|sample|foobar|test[_-]?key"
    rb"|(?:^|[_-])(?:todo|fake|lorem|none)(?:[_-]|$)",
    re.IGNORECASE,
)
"""What stands in values that are none: words of manuals and templates."""

TELLING = 256
"""Bytes in which a value says of itself that it is none; in what is longer, such a word may stand by chance."""

REPEATED = re.compile(rb"(.)\1{7}")
UUID = re.compile(rb"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
WORDS = re.compile(rb"[A-Za-z]{2,}")
HEX = re.compile(rb"[0-9a-fA-F]+")


def entropy_of(value: bytes) -> float:
    """Shannon's entropy in bits for each byte of a value."""
    length = len(value)
    return -sum(count / length * math.log2(count / length) for count in Counter(value).values()) if length else 0.0


def is_example(value: bytes) -> bool:
    """Whether this is a value that everybody knows, or one that says of itself that it is none."""
    lower = value.lower()
    return (
        lower in EXAMPLES
        or lower.startswith(JWT_IO)
        or REPEATED.search(value, 0, TELLING) is not None
        or TELLTALE.search(value, 0, TELLING) is not None
    )


def mixed(value: bytes) -> bool:
    """More kinds of characters, and more often changing, than a word with a number has."""
    digits = sum(48 <= byte <= 57 for byte in value)
    return entropy_of(value) >= 2.8 and digits < len(value) and (digits >= 2 or changes_of(value) >= 0.3)


def token(value: bytes) -> bool:
    """A random text, and no name, path, number, version or call that code would have here."""
    digits = sum(48 <= byte <= 57 for byte in value)
    if digits == len(value) or b".." in value or value.startswith(b"//"):
        return False
    if UUID.fullmatch(value):
        return True
    if HEX.fullmatch(value):
        return digits >= 2 and len(value) >= 24 and entropy_of(value) >= 3.0
    if digits < 2:
        return len(value) >= 20 and entropy_of(value) >= 3.8 and changes_of(value) >= 0.42
    return entropy_of(value) >= 3.3 and changes_of(value) >= 0.28


def changes_of(value: bytes) -> float:
    """How often small letters, large ones, digits and signs take turns: about half as often as they can by chance."""
    kinds = bytes(_kind(byte) for byte in value)
    return sum(one != other for one, other in pairwise(kinds)) / len(value)


def _kind(byte: int) -> int:
    if 97 <= byte <= 122:
        return 1
    if 65 <= byte <= 90:
        return 2
    return 3 if 48 <= byte <= 57 else 4


NAMES = re.compile(
    rb"(?:next|prev(?:ious)?|page|paging|continuation|continue|lock|cursor|sync|resume|public|publishable|idempotency|cancel"
    rb"lation|pagination|delta|skip|position|partition|sort|primary|foreign|cache|routing|row|range|hash)[_.-]?(?:key|token)"
    rb"|tokeni[sz]|hash|algorithm|checksum|digest|fingerprint|length|expir|version|[_-]ids?$|_?uuid|[a-z]Id$|(?:token|key)"
    rb"[_-]?(?:type|count|limit|name|ur[il]|path|file|size)",
    re.IGNORECASE,
)
"""Names of what looks random and is no secret."""

LONGEST_NAME = 40
NAME_BEFORE = re.compile(rb"[\w.-]{0,40}\Z")
NAME_AFTER = re.compile(rb"[\w. -]*")


def names_no_secret(before: bytes, match: bytes) -> bool:
    """Whether what a value is assigned to names something else: what stands before the match, and its beginning."""
    lead = NAME_BEFORE.search(before[-LONGEST_NAME:])
    rest = NAME_AFTER.match(match)
    name = (lead[0] if lead else b"") + (rest[0] if rest else b"")
    return NAMES.search(name.strip(b" .-")) is not None


PASSWORD_WORDS = re.compile(
    rb"(?:password|passwd|secret|none|null|true|false|undefined|string|required|optional|hidden|user|admin|root|value"
    rb"|request|config|settings|environ|getenv|process|params|input|field|args|self|this|hash|length|min|max|reset)",
    re.IGNORECASE,
)
NOT_WRITTEN = re.compile(rb"^[${%<\[(*#&]|[(){}\[\]]|^[\w.]+\.[A-Za-z_]\w*;?$|^[A-Z][A-Z0-9_]+$|->|::")


def password(value: bytes) -> bool:
    """A password as people make them, and no expression, type or word that code would have here."""
    value = value.rstrip(b",;:.")
    if len(value) < 6 or NOT_WRITTEN.search(value) or PASSWORD_WORDS.match(value):
        return False
    digits = sum(48 <= byte <= 57 for byte in value)
    signs = sum(_kind(byte) == 4 and byte not in b"_.-" for byte in value)
    letters = sum(_kind(byte) in (1, 2) for byte in value)
    return letters > 0 and entropy_of(value) >= 2.3 and (digits > 0 or signs > 1)


def url(value: bytes) -> bool:
    """The password of an address: anything that is not a name for one."""
    if value[:1] in b"${%<*[" or b"{" in value:
        return False
    return not re.fullmatch(
        rb"(?:password|passwd|passw|pass|pwd|secret|token|user|x+|\*+|\.+|[0-9]{2,5})", value.lower()
    )


def basic(value: bytes) -> bool:
    """A name and a password in base64, with a colon between."""
    try:
        told = base64.b64decode(value + b"=" * (-len(value) % 4), validate=True)
    except binascii.Error:
        return False
    name, colon, secret = told.partition(b":")
    return bool(colon and name and len(secret) > 2 and told.isascii() and told.decode().isprintable())


def text_of(value: bytes, *, inflate: bool = False) -> bytes:
    """What base64 stands for, wrapped or not, as UTF-8: also of UTF-16 and, where it is told to, of gzip.

    Other bytes that no text has become breaks.
    """
    packed = value.translate(ALPHABET, APART)
    told = binascii.a2b_base64(packed[: len(packed) - (len(packed) % 4 == 1)] + b"==")
    if inflate and told.startswith(GZIP):
        told = inflated(told)
    even, odd = told[::2].count(0), told[1::2].count(0)
    if max(even, odd) * 4 > len(told):
        told = told.decode("utf-16-be" if even > odd else "utf-16-le", "ignore").encode()
    return told.translate(BREAKS)


GZIP = b"\x1f\x8b\x08"

ALPHABET = bytes.maketrans(b"-_", b"+/")
APART = b" \t\r\n>|="
BREAKS = bytes(byte if byte >= 32 and byte != 127 else 10 if byte != 9 else 9 for byte in range(256))


def dotted(value: bytes) -> bool:
    """A token of several parts, and not the first one alone."""
    return b"." in value


def discord(value: bytes) -> bool:
    """A bot's token: its first part is the bot's number in base64."""
    first = value.partition(b".")[0]
    try:
        number = base64.b64decode(first + b"=" * (-len(first) % 4), altchars=b"-_")
    except binascii.Error:
        return False
    return number.isdigit()


JUDGES: Mapping[str, Callable[[bytes], bool]] = {
    "mixed": mixed,
    "mixed-case-free": lambda value: entropy_of(value) >= 2.5,
    "token": token,
    "password": password,
    "url": url,
    "basic": basic,
    "discord": discord,
    "dotted": dotted,
}
