"""What the user wrote: YAML made into frozen values, and everything that is wrong with it in one list.

In: a file, a text or a mapping, and the environment. Out: a `Config` and the `Problems` found, each with file, line,
path and cure; `Problems.raise_if_any` makes a ConfigError of them. A plugin's own `Config` class is read by the same
rules: `Range`, `Pattern` and `Size` bound its fields.

`reading` finds and reads the file, `ownership` says whose it must be,
`structure` takes values strictly, `scalars` the single ones, `words` says what is wrong, `sections` what the keys are,
`schema` describes them for editors, and `values` writes JSON. With `converter`, which is cattrs', a plugin registers
types of its own for all of these.
"""

from routerpool.config.reading import from_mapping, load, schema
from routerpool.config.sections import Config, Plugins, Profile, ServerConfig
from routerpool.config.structure import structure
from routerpool.config.values import converter
from routerpool.config.words import Pattern, Range, Size
from routerpool.document import Problems

__all__ = [
    "Config",
    "Pattern",
    "Plugins",
    "Problems",
    "Profile",
    "Range",
    "ServerConfig",
    "Size",
    "converter",
    "from_mapping",
    "load",
    "schema",
    "structure",
]
