"""A GGUF model small enough to make in a test: real files and a real llama.cpp, without real weights.

The weights are noise from a fixed seed, steered through the first of the 64 dimensions, which no layer writes to. One
is the same for every token and so acts as a bias on the output: words are likely, bytes are not, an end comes. The
others let a token call for the one after it: the prompt for a call, a quote for a word, a word for the closing quote.
The model therefore speaks real words without sense, stops by itself, calls a tool whenever it is offered one and was
not just answered by one, and fills any grammar that llama.cpp puts around it (tool calls, JSON schemas).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from attrs import frozen

DIMENSIONS, LAYERS, HEADS, INNER = 64, 2, 4, 128
BIAS, OFFER, CALLED, QUOTED, SPELT, BRACED = range(6)  # the dimensions that no layer writes to
KEPT = 6

WORDS = """
a about after again all also always an and answer any are as ask at back be because been before best better both
but by call can cat change check cloud code come could day did different do does done down each end even every
fast few file find first for found free from full get give go good great had hard has have he help her here high
him his home house how i idea if in into is it its just keep kind know last late learn left light like line list
little local long look low made make many may me mean model more most much must my name near need never new next
no not now number of off old on one only open or other our out over part people place plan point private put
question quick rain read red right road room run said same say school second see seem she short should show small
so some sort still stop such sun sure system table take talk tell test text than that the their them then there
they thing think this time to too tree try two under up use very wait walk want was water way we well went were
what when where which while white who why will with word work world would write year yes you your
"""

# How likely a token is, as a logit, when nothing called for it; the noise on it is about one.
WORD, END, BRACE, CHARACTER, NEVER, BYTE = 4.0, 6.0, 2.0, 0.0, -6.0, -20.0

ASK, OPEN, CLOSE, STOP = "<|tools|>", "<tool_call>\n", "</tool_call>", "<|im_end|>"

# The form Hermes models were trained on; llama.cpp recognises it and constrains tool calls to it.
CHAT_TEMPLATE = """\
{%- if tools %}{{- '<|im_start|>system\\n' }}
{%- if messages[0]['role'] == 'system' %}{{- messages[0]['content'] + '\\n\\n' }}{%- endif %}
{{- "You may call these functions:\\n<tools>" }}
{%- for tool in tools %}{{- '\\n' }}{{- tool | tojson }}{%- endfor %}
{{- '\\n</tools>\\nFor each call answer with <tool_call>\\n{"name": <name>, "arguments": <arguments>}\\n</tool_call>' }}
{{- '<|im_end|>\\n' }}
{%- elif messages[0]['role'] == 'system' %}
{{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
{%- if message['role'] == 'tool' %}
{{- '<|im_start|>user\\n<tool_response>\\n' + message['content'] + '\\n</tool_response><|im_end|>\\n' }}
{%- elif message['role'] == 'assistant' %}
{{- '<|im_start|>assistant\\n' }}{%- if message['content'] %}{{- message['content'] }}{%- endif %}
{%- for call in message['tool_calls'] or [] %}
{{- '<tool_call>\\n{"name": "' + call['function']['name'] + '", "arguments": ' }}
{{- call['function']['arguments'] | tojson }}{{- '}\\n</tool_call>' }}
{%- endfor %}{{- '<|im_end|>\\n' }}
{%- elif message['role'] != 'system' or not loop.first %}
{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}
{%- if tools and messages[-1]['role'] != 'tool' %}{{- '<|tools|>' }}{%- endif %}{%- endif %}
"""


@frozen
class Token:
    """One entry of the vocabulary: its text, GGUF's type, its bias, what calls for it and what it calls for."""

    text: str
    kind: int
    bias: float
    after: int = 0
    sets: int = 0


def vocabulary() -> list[Token]:
    """Every token, in the order of its id: `<s>` is 1 and the end of a turn is 2."""
    from gguf import TokenType

    normal, control = int(TokenType.NORMAL), int(TokenType.CONTROL)
    words = WORDS.split()
    return [
        Token("<unk>", int(TokenType.UNKNOWN), NEVER),
        Token("<s>", control, NEVER),
        Token(STOP, control, END, after=CALLED),
        Token("<|im_start|>", control, NEVER),
        Token(ASK, control, NEVER, sets=OFFER),
        Token(OPEN, normal, NEVER, after=OFFER),
        Token(CLOSE, normal, NEVER, after=BRACED, sets=CALLED),
        *(Token(f"<0x{octet:02X}>", int(TokenType.BYTE), BYTE) for octet in range(256)),
        *(Token(chr(code), normal, CHARACTER) for code in range(0x21, 0x7F) if chr(code) not in '"}'),
        Token("\u2581", normal, NEVER),
        Token('"', normal, NEVER, after=SPELT, sets=QUOTED),
        Token("}", normal, BRACE, sets=BRACED),
        *(Token(word, normal, NEVER, after=QUOTED, sets=SPELT) for word in words if len(word) == 4),
        *(Token(f"\u2581{word}", normal, WORD) for word in words),
    ]


def tensors(tokens: list[Token]) -> dict[str, Any]:
    """The weights by GGUF tensor name: seeded noise, but for the dimensions kept to steer by."""
    import numpy as np

    noise = np.random.default_rng(0)

    def matrix(rows: int, columns: int, scale: float) -> Any:
        return (noise.standard_normal((rows, columns)) * scale).astype(np.float32)

    ones = np.ones(DIMENSIONS, dtype=np.float32)
    embedding, output = matrix(len(tokens), DIMENSIONS, 1.0), matrix(len(tokens), DIMENSIONS, 0.2)
    embedding[:, :KEPT] = output[:, :KEPT] = 0.0
    embedding[:, BIAS] = 8.0
    for row, token in enumerate(tokens):
        output[row, BIAS] = token.bias / 5.6  # about what the norm leaves of the constant 8
        if token.sets:
            embedding[row, token.sets] = 8.0
        if token.after:
            output[row, token.after] = 4.0
    weights = {"token_embd.weight": embedding, "output.weight": output, "output_norm.weight": ones}
    for layer in (f"blk.{index}." for index in range(LAYERS)):
        weights |= {f"{layer}{name}.weight": ones for name in ("attn_norm", "ffn_norm")}
        weights |= {f"{layer}attn_{name}.weight": matrix(DIMENSIONS, DIMENSIONS, 0.1) for name in "qkv"}
        weights |= {f"{layer}ffn_{name}.weight": matrix(INNER, DIMENSIONS, 0.1) for name in ("gate", "up")}
        for name, width in (("attn_output", DIMENSIONS), ("ffn_down", INNER)):
            weights[f"{layer}{name}.weight"] = matrix(DIMENSIONS, width, 0.1)
            weights[f"{layer}{name}.weight"][:KEPT] = 0.0  # nothing is ever added to what is kept
    return weights


def write_tiny_model(path: Path, context: int = 4096) -> Path:
    """Write the model to `path` (about half a megabyte, the same bytes each time) and answer `path`.

    `context` is the length in tokens that the file claims; it costs nothing here. Needs gguf and numpy.
    """
    from gguf import GGUFWriter

    tokens = vocabulary()
    writer = GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_context_length(context)
    writer.add_embedding_length(DIMENSIONS)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(DIMENSIONS // HEADS)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("llama")
    writer.add_token_list([token.text for token in tokens])
    writer.add_token_scores([float(len(token.text)) for token in tokens])
    writer.add_token_types([token.kind for token in tokens])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_add_bos_token(True)
    writer.add_add_space_prefix(False)  # with it, llama.cpp cannot start any grammar on this vocabulary
    writer.add_chat_template(CHAT_TEMPLATE)
    for name, weights in tensors(tokens).items():
        writer.add_tensor(name, weights)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
