"""Which plugins and cores go together: what a plugin says in `requires_core`, and what its hooks are about to lose.

A hook may gain arguments in any release, since a plugin takes only those that it names. Before it loses one, or goes,
`Leaving` marks it in `hookspecs` for one whole series of releases (0.2.x before 1.0, 2.x from then on): pluggy warns
of every plugin that still uses it, and it goes on working. So a plugin that is warned of nothing works with the next
series, too, whatever release of this one it was tried with.
"""

from __future__ import annotations

from routerpool.version import __version__

__all__ = ["Leaving", "supported", "unmet"]


class Leaving(DeprecationWarning):
    """Marks a hook or an argument that goes with the release `until`, and says what to use instead.

    For a hook it stands in `@hookspec(warn_on_impl=Leaving(…))`, for its arguments in `warn_on_impl_args={name: …}`.
    """

    def __init__(self, what: str, until: str, cure: str) -> None:
        super().__init__(f"{what} goes with routerpool {until}; {cure}")
        self.until = until
        self.cure = cure


def unmet(plugin: type, core: str = __version__) -> str | None:
    """Why this plugin class does not go with this core, by its `requires_core`; None when it does, or says nothing.

    A core before its release counts as that release.
    """
    required = getattr(plugin, "requires_core", None)
    if required is None:
        return None
    from packaging.specifiers import InvalidSpecifier, SpecifierSet  # here, since few commands load a plugin
    from packaging.version import Version  # here, like the specifiers

    try:
        fits = SpecifierSet(required).contains(Version(core).base_version)
    except (InvalidSpecifier, TypeError, AttributeError):
        return f"says requires_core = {required!r}, which is no range of versions; write it as {supported(core)!r}"
    if fits:
        return None
    return f"works with routerpool {required}, and this is routerpool {core}; install another release of one of them"


def supported(core: str = __version__) -> str:
    """The range that a plugin which is warned of nothing may promise: this series of releases and the next."""
    from packaging.version import Version  # here, like the specifiers

    version = Version(core)
    end = f"{version.major + 2}" if version.major else f"0.{version.minor + 2}"
    return f">={version.major}.{version.minor},<{end}"
