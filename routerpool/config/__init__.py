"""What the user wrote: YAML made into frozen values, and everything that is wrong with it in one list.

In: a file, a text or a mapping, and the environment. Out: a `Config` and the `Problems` found, each with file, line,
path and cure; `Problems.raise_if_any` makes a ConfigError of them. A plugin's own `Config` class is read by the same
rules: `Range`, `Pattern` and `Size` bound its fields.

`reading` finds and reads the file, `document` is the YAML with its lines, `shape` takes values strictly, `sections`
says what the keys are, and `schema` describes them for editors. Nothing here knows a plugin or opens a connection.
"""

from routerpool.config.document import Problems
from routerpool.config.reading import Config, from_mapping, load, schema
from routerpool.config.sections import Plugins, Profile, ServerConfig
from routerpool.config.shape import Pattern, Range, Size, structure

__all__ = [
    "Config",
    "Pattern",
    "Plugins",
    "Problems",
    "Profile",
    "Range",
    "ServerConfig",
    "Size",
    "from_mapping",
    "load",
    "schema",
    "structure",
]
