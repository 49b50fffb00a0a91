"""Who answers, and why: nothing here talks to a provider, so explaining a decision is free and cannot lie.

In: a request, and the catalog's snapshot of candidates. Out: a `Plan`: who is asked, in order, with the named terms
behind it, and who is not, with the reason.

`catalog` keeps the snapshot true to what the providers say they have, `rosters` what they listed last, `selection` says
what a model's name means and `dangling` which names in a configuration mean nothing. `plan` classifies, vetoes and has
the strategies score, `ranking` makes an order of that, `fallback` says what follows a failure, `explanation` puts a
plan in words, `tokens` estimates a prompt, and `cost` says what an answer takes.
"""

from routerpool.planning.catalog import Catalog, Snapshot
from routerpool.planning.cost import cost_of
from routerpool.planning.explanation import explain, likely_usage
from routerpool.planning.plan import Planner
from routerpool.planning.tokens import estimate_tokens, text_tokens

__all__ = ["Catalog", "Planner", "Snapshot", "cost_of", "estimate_tokens", "explain", "likely_usage", "text_tokens"]
