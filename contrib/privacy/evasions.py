"""Ways to hide a secret from a scanner, on purpose or by accident: reported as figures, nothing is promised."""

from __future__ import annotations

import base64
import codecs
import gzip
import html
import json
import random
from collections.abc import Callable, Iterator
from urllib.parse import quote

from formats import Secret
from words import prose

__all__ = ["EVASIONS", "hidden"]

Hide = Callable[[str], list[str]]
LOOKALIKES = str.maketrans("aceopxyACEHKMOPTX", "асеорхуАСЕНКМОРТХ")


def _halves(text: str) -> tuple[str, str]:
    return text[: len(text) // 2], text[len(text) // 2 :]


def _wide(text: str) -> str:
    return "".join(chr(ord(letter) + 0xFEE0) if "!" <= letter <= "~" else letter for letter in text)


EVASIONS: dict[str, Hide] = {
    "none": lambda text: [text],
    "zero-width spaces": lambda text: ["\u200b".join(text)],
    "one zero-width space": lambda text: ["\u200b".join(_halves(text))],
    "soft hyphens": lambda text: ["\u00ad".join(text)],
    "full-width": lambda text: [_wide(text)],
    "lookalike letters": lambda text: [text.translate(LOOKALIKES)],
    "base64": lambda text: [base64.b64encode(text.encode()).decode()],
    "hexadecimal": lambda text: [text.encode().hex()],
    "percent-encoded": lambda text: ["".join(f"%{byte:02X}" for byte in text.encode())],
    "percent-encoded signs": lambda text: [quote(text, safe="")],
    "JSON escapes": lambda text: ["".join(f"\\u{ord(letter):04x}" for letter in text)],
    "HTML entities": lambda text: ["".join(f"&#{ord(letter)};" for letter in text)],
    "HTML escaped": lambda text: [html.escape(text)],
    "JSON in JSON": lambda text: [json.dumps(json.dumps({"value": text}))],
    "rot13": lambda text: [codecs.encode(text, "rot13")],
    "reversed": lambda text: [text[::-1]],
    "compressed": lambda text: [base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()],
    "spaced": lambda text: [" ".join(text)],
    "broken line": lambda text: ["\n".join(_halves(text))],
    "joined in code": lambda text: ['"{}" + "{}"'.format(*_halves(text))],
    "two messages": lambda text: list(_halves(text)),
    "two JSON keys": lambda text: [json.dumps(dict(zip(("first", "second"), _halves(text), strict=True)))],
}
"""By name: a text to what is seen instead, one text for each message that it is spread over."""


def hidden(seed: int, made: Iterator[Secret]) -> Iterator[tuple[str, list[str]]]:
    """Secrets that can be told by themselves, hidden in every way, each in a sentence; the way and the messages."""
    for number, secret in enumerate(made):
        if secret.kind.known and secret.kind.form == "bare":
            rng = random.Random(f"{seed}/{number}")
            lead = prose(rng, 1, "en")
            for name, hide in EVASIONS.items():
                yield name, [f"{lead} {part} {lead}" for part in hide(secret.value)]
