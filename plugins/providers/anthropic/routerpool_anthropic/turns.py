"""A conversation in OpenAI's form as Anthropic wants to hear it: blocks instead of parts, two roles that take turns."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from routerpool.wire import loads

__all__ = ["FORMAT", "Untranslatable", "turns"]

Block = dict[str, Any]

FORMAT = "anthropic-claude-v1"
"""The mark of `reasoning_details` whose signature is Anthropic's: only these it takes back."""

NATIVE = frozenset(
    (
        *("image", "document", "search_result", "container_upload", "tool_use", "tool_result"),
        *("thinking", "redacted_thinking", "server_tool_use", "web_search_tool_result"),
    )
)
"""Blocks of Anthropic's own that a client may have put among OpenAI's parts; they pass as they are."""

IMAGE_TYPES: Mapping[str, str] = {"image/jpg": "image/jpeg"}


class Untranslatable(ValueError):
    """A request that the Messages API has no form for; the text says what of it."""


def turns(messages: Sequence[Mapping[str, Any]]) -> tuple[list[Block], list[dict[str, Any]]]:
    """The system's text blocks, and the messages, of which no two in a row are of one role.

    System messages go to the front, wherever they stood: the API knows one place for them only.
    """
    system: list[Block] = []
    told: list[dict[str, Any]] = []
    for message in messages:
        role = message["role"]
        if role in ("system", "developer"):
            system += [block for block in _blocks(message) if block["type"] == "text"]
        elif role == "tool":
            _add(told, "user", [_result(message)])
        elif role == "assistant":
            _add(told, "assistant", _said(message))
        elif role == "user":
            _add(told, "user", _blocks(message))
        else:
            raise Untranslatable(f"a message of the role {role!r}")
    if not told:  # instructions alone: the API wants to be asked something
        told, system = [{"role": "user", "content": system}], []
    _trim(told)
    return system, [{"role": turn["role"], "content": _short(turn["content"])} for turn in told]


def _add(told: list[dict[str, Any]], role: str, blocks: list[Block]) -> None:
    if not blocks:
        return
    if told and told[-1]["role"] == role:
        told[-1]["content"] += blocks
    else:
        told.append({"role": role, "content": blocks})


def _trim(told: list[dict[str, Any]]) -> None:
    """An answer that is begun for the model may not end in blanks."""
    last = told[-1]
    if last["role"] == "assistant" and last["content"][-1]["type"] == "text":
        last["content"][-1]["text"] = last["content"][-1]["text"].rstrip()
        if not last["content"][-1]["text"]:
            last["content"].pop()
            if not last["content"]:
                told.pop()


def _short(blocks: list[Block]) -> list[Block] | str:
    """A lone text as a string, which means the same."""
    if len(blocks) == 1 and blocks[0].keys() == {"type", "text"}:
        text: str = blocks[0]["text"]
        return text
    return blocks


# Parts and blocks


def _blocks(message: Mapping[str, Any]) -> list[Block]:
    """The blocks of a message's content. Empty texts are left out: the API refuses them."""
    content = message.get("content")
    if isinstance(content, str):
        blocks = [{"type": "text", "text": content}] if content else []
    elif isinstance(content, list):
        blocks = [block for part in content if (block := _block(part)) is not None]
    else:
        blocks = []
    if blocks and message.get("cache_control"):
        blocks[-1]["cache_control"] = message["cache_control"]
    return blocks


def _block(part: Any) -> Block | None:
    kind = part.get("type") if isinstance(part, dict) else None
    block: Block | None
    if kind in ("text", "input_text", "refusal"):
        text = part.get("refusal" if kind == "refusal" else "text")
        block = {"type": "text", "text": text} if isinstance(text, str) and text else None
    elif kind in ("image_url", "input_image"):
        image = part.get("image_url")
        block = {"type": "image", "source": _source(image.get("url") if isinstance(image, dict) else image)}
    elif kind == "file":
        block = _document(part.get("file"))
    elif isinstance(kind, str) and kind in NATIVE:
        return dict(part)
    else:
        raise Untranslatable(f"a part of the type {kind!r}")
    if block is not None and part.get("cache_control"):
        block["cache_control"] = part["cache_control"]
    return block


def _source(url: Any) -> dict[str, str]:
    """Where an image is: in the data: URL itself, or at an address that Anthropic fetches."""
    if not isinstance(url, str):
        raise Untranslatable("an image without an address")
    if not url.startswith("data:"):
        return {"type": "url", "url": url}
    head, _, data = url.removeprefix("data:").partition(",")
    media, _, rest = head.partition(";")
    if not rest.endswith("base64"):
        raise Untranslatable("a data: URL that is not base64")
    return {"type": "base64", "media_type": IMAGE_TYPES.get(media, media), "data": data}


def _document(file: Any) -> Block:
    data = file.get("file_data") if isinstance(file, dict) else None
    if not isinstance(data, str):
        raise Untranslatable("a file that is not in the request itself")
    source = _source(data)
    if source.get("media_type", "application/pdf") != "application/pdf":
        raise Untranslatable(f"a file of the type {source['media_type']!r}")
    title = file.get("filename")
    return {"type": "document", "source": source} | ({"title": title} if isinstance(title, str) else {})


# What the assistant said, and what its tools answered


def _said(message: Mapping[str, Any]) -> list[Block]:
    """Thinking first, then text, then calls: the order in which Anthropic takes its own words back."""
    blocks = [*_thinking(message), *_blocks(message)]
    for call in message.get("tool_calls") or ():
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict):
            raise Untranslatable("a tool call that is none of a function")
        used = {"type": "tool_use", "id": _id(call.get("id")), "name": function.get("name")}
        blocks.append(used | {"input": _input(function.get("arguments"))})
    return blocks


def _input(arguments: Any) -> dict[str, Any]:
    """The arguments as an object; what a model once sent that is none is kept as text in one."""
    if isinstance(arguments, dict):
        return arguments
    try:
        value = loads((arguments or "{}").encode())
    except (ValueError, AttributeError):
        value = None
    return value if isinstance(value, dict) else {"arguments": arguments}


def _result(message: Mapping[str, Any]) -> Block:
    block: Block = {"type": "tool_result", "tool_use_id": _id(message.get("tool_call_id"))}
    plain = {name: value for name, value in message.items() if name != "cache_control"}
    if content := _short(_blocks(plain)):
        block["content"] = content
    return block | {name: message[name] for name in ("is_error", "cache_control") if message.get(name)}


def _id(name: Any) -> str:
    """A call's id in the letters that Anthropic allows; another provider of the pool may have made it."""
    return re.sub(r"[^a-zA-Z0-9_-]", "_", str(name))


def _thinking(message: Mapping[str, Any]) -> Iterable[Block]:
    """Thinking that is handed back with its signature, unchanged; what others have thought is left out."""
    given = message.get("thinking_blocks")
    if isinstance(given, list):
        for block in given:
            kind = block.get("type") if isinstance(block, dict) else None
            if (kind == "thinking" and block.get("signature")) or kind == "redacted_thinking":
                yield dict(block)
        return
    details = message.get("reasoning_details")
    parts: dict[Any, list[Mapping[str, Any]]] = {}
    for place, detail in enumerate(details if isinstance(details, list) else ()):
        if isinstance(detail, dict) and str(detail.get("format") or FORMAT) == FORMAT:
            parts.setdefault(detail.get("index", f"#{place}"), []).append(detail)
    for fragments in parts.values():
        yield from _thought(fragments)


def _thought(fragments: Sequence[Mapping[str, Any]]) -> Iterable[Block]:
    """One block of the fragments that a stream brought of it."""
    sealed = "".join(str(f["data"]) for f in fragments if f.get("type") == "reasoning.encrypted" and f.get("data"))
    signature = "".join(str(f["signature"]) for f in fragments if f.get("signature"))
    if sealed:
        yield {"type": "redacted_thinking", "data": sealed}
    elif signature:
        yield {
            "type": "thinking",
            "thinking": "".join(str(f.get("text") or "") for f in fragments),
            "signature": signature,
        }
