"""The texts of a request, and who may see them.

In: a request. Out: its `Part`s, each with its place; `Match`es of what a scanner finds in them; the request without
what was found, with placeholders that the answer is given back; and from `may_see` whether a candidate may be sent it.

`guard` is the one function that decides who may see a request: the planner asks it, and the engine once more at the
socket, after all plugins. `parts` names every text, wherever it stands, `scanning` is the base of scanners with
their `verdicts`, `placeholders` stand for what must not leave, and `packed` is text in data URLs.
"""

from routerpool.privacy.guard import may_be_local, may_see
from routerpool.privacy.packed import inflated
from routerpool.privacy.parts import Part, leaves_of, parts_of
from routerpool.privacy.scanning import ScannerConfig, TextScanner
from routerpool.privacy.verdicts import Match

__all__ = [
    "Match",
    "Part",
    "ScannerConfig",
    "TextScanner",
    "inflated",
    "leaves_of",
    "may_be_local",
    "may_see",
    "parts_of",
]
