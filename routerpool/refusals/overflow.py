"""How servers say that a prompt is too long for a model: one list for all of them, in the words that they share.

Read from the errors of OpenAI, Azure, Anthropic, Bedrock, Google, Mistral, Groq, Cohere, xAI, Together, Fireworks,
DeepSeek, OpenRouter, GitHub, Moonshot, MiniMax, Z.ai, Alibaba, vLLM, SGLang, TGI, TensorRT-LLM, llama.cpp, Ollama, LM
Studio, KoboldCpp and LocalAI (2025 and 2026). Words of one of them alone stand in its data file.
"""

from __future__ import annotations

import re

__all__ = ["says_too_long"]

_PROMPT = r"\b(?:prompt|inputs?|messages?|conversation|history|request|context|tokens?|text|sequence|content)\b"
_WINDOW = (
    r"(?:context|window|model|maximum|max(?:imum)? (?:allowed )?(?:input |prompt |total |sequence )?(?:length|tokens))"
)
_LENGTH = r"(?:context|sequence|input|prompt|token)[ _-]?(?:window|size|length|limit|tokens|count)"
_OVER = r"(?:exceed(?:s|ed|ing)?|(?:longer|larger|greater|bigger|more|higher) than|over|beyond|surpass(?:es|ed)?)"

_SAYINGS = (
    r"context[_ ](?:length|window|size)[_ ]exceeded|exceed_context_size|context_overflow|input_too_long",
    r"prompt_too_long|string_above_max_length|model_context_window|max_prompt_tokens_exceeded|tokens_limit_reached|context_limit",
    rf"{_PROMPT}[^.!?]{{0,60}}(?:is|are|was|were|be)? ?too (?:long|large|big|many)(?! for an? (?:image|file))",
    r"too many (?:input |prompt |total )?tokens(?! (?:per|requested per))|too long for (?:the |requested |this )?model",
    rf"{_OVER}[^.!?]{{0,60}}{_LENGTH}",
    rf"{_LENGTH}[^.!?]{{0,60}}{_OVER}",
    rf"{_PROMPT}[^.!?]{{0,80}}{_OVER}[^.!?]{{0,40}}{_WINDOW}",
    r"(?:maximum|max) (?:model )?(?:context|sequence|prompt|input) (?:length|size)(?: of [^.!?]{0,60})? (?:is|of) \d",
    r"(?:does not|doesn't|cannot|can't|won't|not) fit(?: in(?:to)?| within)?[^.!?]{0,40}(?:context|window|kv cache)",
    rf"(?:reduce|shorten|truncate|trim)[^.!?]{{0,40}}(?:length|size|number) of[^.!?]{{0,20}}{_PROMPT}",
    r"(?:please )?(?:shorten|reduce|truncate) (?:your |the )?(?:prompt|input|messages|context|conversation)",
    r"(?:ran |run |runs |running )?out of context|no (?:space|room) left in (?:the )?context|context (?:is )?full",
    r"inputs? tokens \+ max_(?:new_)?tokens must be <=|inputs? must have (?:less|fewer) than [0-9]+ tokens",
    r"max_tokens must be at least 1, got -|exceeds? (?:the )?max(?:imum)? (?:message|input|prompt|context) tokens",
    r"range of input length should be",
    r"(?:超过|超出)[^.!?]{0,40}(?:长度|上下文|限制)|(?:长度|上下文)[^.!?]{0,20}(?:超过|超出)|超长",
)
_too_long = re.compile("|".join(_SAYINGS), re.IGNORECASE).search

_marks = re.compile(r"[`'\x22*]")

_OTHERWISE = (
    r"per[- _]?min|per[- _]?day|per[- _]?hour|\b[rt]p[md]\b|rate[- _]?limit|quota|\bbilling"
    # the cap of the answer, or of something else
    r"|max_(?:completion_|output_|new_)?tokens,? (?:is|are|must be (?!at least 1, got -|<=)|should|cannot|exceeds)"
    r"|(?:image(?! and text)|file|audio|video|attachment|tool(?:s| name)?|function name|metadata|user|stop)[^.!?]{0,40}"
    r"(?:too (?:long|large|big|many)|exceed)"
)
_means_else = re.compile(_OTHERWISE, re.IGNORECASE).search


def says_too_long(words: str) -> bool:
    """Whether an error's code and text say that the prompt is too long; a rate and an answer's own cap are no such."""
    words = _marks.sub("", words[:4096])
    return _too_long(words) is not None and _means_else(words) is None
