"""How many tokens a chat request is, told without a tokenizer: cheap enough to ask of every request.

Tokenizers of the GPT kind cut text where its character class changes, so runs of classes foretell the cuts. Each
character of a sample becomes a byte of class bits, the sample one long integer, and a few shifts and bit counts then
tell all runs at once. The weights are fitted to o200k by contrib/benchmarks/tokens.py, which also prints the error:
5 to 10 % on code, prose, JSON and most languages, 4 % on long mixed requests (chars/4: 10 to 50 %, and 11 %).

A long text is not read whole: evenly spread windows of it are, at places that depend on nothing but its length. What
a text counts is remembered by its hash, since conversations bring the same ones again and again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from operator import mul

import orjson

__all__ = [
    "IMAGE_TOKENS",
    "MESSAGE_TOKENS",
    "WEIGHTS",
    "count_classes",
    "estimate_tokens",
    "text_tokens",
]

MESSAGE_TOKENS = 4
"""What a chat template puts around a message."""
CALL_TOKENS = 12
"""What it puts around the arguments of a tool call, the tool's name among it."""
IMAGE_TOKENS = 765
"""What an image, a sound or a file counts, whatever its size: an image of 1024 × 1024 in OpenAI's own arithmetic."""

MEDIA = frozenset(
    ("image", "image_url", "input_image", "audio", "input_audio", "video_url", "file", "input_file", "document")
)
OBJECT, ARRAY = (dict, Mapping), (list, tuple)  # dict first: asking Mapping alone is three times slower

WHOLE = 640  # characters up to which a request is read whole
SHORT = 4096  # up to which few and narrow windows of it are read, beyond which many and wide ones
FEW, NARROW = 16, 40  # how many these are, of how many characters each
MANY, WIDTH = 32, 80
APART = 64  # texts up to which each is counted by itself, and remembered
REMEMBERED = 16_384  # how many are
NODES = 10_000  # where the walk through a value that is no JSON ends

WEIGHTS: Mapping[str, float] = {
    "characters": 0.169,
    "joints": 0.73,
    "digits": 0.528,
    "groups": 1.259,
    "spaces": 0.399,
    "accents": 1.132,
    "greek_to_arabic": 0.297,
    "indic": 0.397,
    "georgian_to_khmer": 0.317,
    "symbols": 0.441,
    "kana_hangul": 0.639,
    "han": 0.915,
    "emoji": 1.8,
}
"""The tokens that one of each thing makes which `count_classes` counts, in its order."""

FACTORS = tuple(WEIGHTS.values())
LETTER, MARK, UPPER, SMALL, DIGIT, SPACE, LINE = (1 << bit for bit in range(7))


def class_bits(byte: int) -> int:
    """The classes of an ASCII character; none for a byte of a longer one."""
    character = chr(byte)
    if byte >= 0x80:
        return 0
    if character.isalpha():
        return LETTER | (UPPER if character.isupper() else SMALL)
    if character.isdigit():
        return DIGIT
    if character == " ":
        return SPACE
    return LINE if character.isspace() else MARK


def script_bit(byte: int) -> int:
    """A bit for the script whose characters begin with this byte in UTF-8; none for ASCII and for later bytes."""
    firsts = (0xC2, 0xCA, 0xE0, 0xE1, 0xE2, 0xE3, 0xE4, 0xEA, 0xEE, 0xF0)
    script = sum(first <= byte for first in firsts)
    return (0, 1, 2, 4, 8, 16, 32, 64, 32, 16, 128)[script]  # kana and hangul share a bit, wide marks are symbols


def everywhere(bits: int) -> int:
    """These bits in each byte of the longest sample, of which each character takes four."""
    return int.from_bytes(bytes([bits]) * 4 * MANY * WIDTH, "little")


CLASSES, SCRIPTS = bytes(map(class_bits, range(256))), bytes(map(script_bit, range(256)))
CHARACTERS, DIGITS, SPACES, GROUPS = map(everywhere, (LETTER | MARK, DIGIT, SPACE, DIGIT | LINE))
LETTERS, MARKS, UPPERS, SMALLS = map(everywhere, (LETTER, MARK, UPPER, SMALL))
STEPS = tuple(int(61.8034 * index * index) % 100 for index in range(MANY))  # in percent, in no rhythm
EACH_SCRIPT = tuple(everywhere(1 << bit) for bit in range(8))


def count_classes(sample: str) -> tuple[int, ...]:
    """How often each thing named in `WEIGHTS` occurs in a text of at most 2,560 characters.

    Characters are letters and marks; a joint is a mark before a letter or a small letter before a capital; groups are
    runs of digits and runs of line breaks and tabs; spaces are runs too. Scripts beyond ASCII are counted by
    character, and left out of the answer where there are none.
    """
    encoded = sample.encode("utf-8", "surrogatepass")
    bits = int.from_bytes(encoded.translate(CLASSES), "little")
    before = bits << 8  # each byte holds the classes of the character before it
    starts = (bits ^ before) & bits
    counts = (
        (bits & CHARACTERS).bit_count(),
        ((bits & LETTERS & ((before & MARKS) >> 1)) | (bits & UPPERS & ((before & SMALLS) >> 1))).bit_count(),
        (bits & DIGITS).bit_count(),
        (starts & GROUPS).bit_count(),
        (starts & SPACES).bit_count(),
    )
    if len(encoded) == len(sample):
        return counts
    leads = int.from_bytes(encoded.translate(SCRIPTS), "little")
    return counts + tuple((leads & script).bit_count() for script in EACH_SCRIPT)


def windows(texts: Sequence[str], total: int) -> list[str]:
    """Pieces spread evenly over `texts`, `total` characters in all; where a text ends, a piece goes on in the next.

    Each is moved within its stretch, out of any rhythm, so that the columns of a table cannot hide from all of them.
    """
    if total <= SHORT:
        whole, stretch = "".join(texts), total // FEW
        room = stretch - NARROW
        return [whole[at : at + NARROW] for at in [stretch * i + room * STEPS[i] // 100 for i in range(FEW)]]
    stretch = total // MANY
    places = iter([stretch * index + (stretch - WIDTH) * step // 100 for index, step in enumerate(STEPS)])
    pieces: list[str] = []
    start, place, missing = 0, next(places), 0
    for text in texts:
        if missing:
            pieces.append(text[:missing])
            missing -= len(pieces[-1])
        end = start + len(text)
        while place < end:
            pieces.append(text[place - start : place - start + WIDTH])
            missing = WIDTH - len(pieces[-1])
            place = next(places, total)
        start = end
    return pieces


def text_tokens(texts: Sequence[str]) -> float:
    """The tokens of all `texts` together, in time that grows with their number but not with their length.

    Up to 640 characters in all are read whole; of more, as many, of more than 4,096, 2,560; the rest is taken to be
    like them. Where all were read, the mean error of pieces of 300 to 4,000 characters was 8.7 instead of 9.1 %.
    """
    total = sum(map(len, texts))
    if not total:
        return 0.0
    sample = "".join(texts if total <= WHOLE else windows(texts, total))
    tokens: float = sum(map(mul, FACTORS, count_classes(sample)))
    return tokens * total / len(sample)


def estimate_tokens(messages: Sequence[Mapping[str, object]], tools: Sequence[object] | None = None) -> int:
    """About how many prompt tokens an OpenAI chat body with these messages and tools is; at least 1.

    Texts, tool calls, tool results and the tools' schemas count by their text; each message and each call adds what
    a template puts around it, each image or file `IMAGE_TOKENS`. Anything may stand anywhere: what has no meaning
    counts by the text in it, and nothing is raised. The same request always counts the same.
    """
    texts: list[str] = []
    fixed = 0
    for message in messages if isinstance(messages, ARRAY) else [messages]:
        fixed += MESSAGE_TOKENS
        if type(message) is dict and len(message) == 2 and type(text := message.get("content")) is str:
            texts.append(text)  # the usual form, told at once
            continue
        if not isinstance(message, OBJECT):
            texts.append(_written(message))
            continue
        content = message.get("content")
        if isinstance(content, str):
            texts.append(content)
        elif content is not None:
            fixed += _add_parts(content, texts)
        if (len(message) > 2 or content is None) and (calls := message.get("tool_calls")):
            fixed += _add_calls(calls, texts)
    if tools:
        texts.append(_written(tools))
    return max(1, round(fixed + (_each(texts) if len(texts) <= APART else text_tokens(texts))))


_counted: dict[tuple[int, int], float] = {}
"""The tokens of texts by hash and length; nothing of a text itself is kept."""


def _each(texts: Sequence[str]) -> float:
    """The tokens of texts that are counted one by one, each once for all requests that bring it."""
    tokens = 0.0
    for text in texts:
        key = hash(text), len(text)
        count = _counted.get(key)
        if count is None:
            if len(_counted) >= REMEMBERED:
                _counted.clear()
            count = _counted[key] = text_tokens((text,))
        tokens += count
    return tokens


def _add_parts(content: object, texts: list[str]) -> int:
    """Add the texts of a message's parts to `texts`, and answer what its images and files count."""
    fixed = 0
    for part in content if isinstance(content, ARRAY) else [content]:
        kind = part.get("type") if isinstance(part, OBJECT) else None
        if isinstance(kind, str) and kind in MEDIA:
            fixed += IMAGE_TOKENS
        else:
            text = part.get("text") if isinstance(part, OBJECT) else None
            texts.append(text if isinstance(text, str) else _written(part))
    return fixed


def _add_calls(calls: object, texts: list[str]) -> int:
    """Add the arguments of an assistant's tool calls to `texts`, and answer what stands around them."""
    fixed = 0
    for call in calls if isinstance(calls, ARRAY) else [calls]:
        fixed += CALL_TOKENS
        function = call.get("function") if isinstance(call, OBJECT) else call
        arguments = function.get("arguments") if isinstance(function, OBJECT) else function
        if arguments is not None:
            texts.append(arguments if isinstance(arguments, str) else _written(arguments))
    return fixed


def _written(value: object) -> str:
    """A value as text: a string as it is, anything else as the JSON that templates show to a model."""
    if isinstance(value, str):
        return value
    try:
        return orjson.dumps(value).decode()
    except TypeError:  # too deep, too large a number, half a character, or never JSON
        return " ".join(_leaves(value))


def _leaves(value: object) -> Iterator[str]:
    """The strings in a value that is no JSON, and a digit for whatever else is in it; it may contain itself."""
    waiting = [value]
    for _ in range(NODES):
        if not waiting:
            return
        value = waiting.pop()
        if isinstance(value, OBJECT):
            waiting += [*value.keys(), *value.values()]
        elif isinstance(value, (*ARRAY, set, frozenset)):
            waiting += value
        else:
            yield value if isinstance(value, str) else "0"
