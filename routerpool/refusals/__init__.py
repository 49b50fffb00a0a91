"""What a provider's refusal says, whoever's it is: when to ask again, and whether the prompt was too long.

In: the headers and the body of an answer that is none. Out: a `Reset`, or the word that a prompt is too long. Pure
functions of what was sent; they never raise on it and take time linear in it.

`resets` reads when a limit ends, in all ways in which providers say so, `fields` knows what they call that, and
`overflow` in which words servers say that a prompt is longer than a model's window.
"""

from routerpool.refusals.overflow import says_too_long
from routerpool.refusals.resets import PACIFIC, HeaderSpec, Reset, TimeFormat, read_reset, until_midnight, zone

__all__ = ["PACIFIC", "HeaderSpec", "Reset", "TimeFormat", "read_reset", "says_too_long", "until_midnight", "zone"]
