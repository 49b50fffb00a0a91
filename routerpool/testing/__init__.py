"""The test kit, for us and for the authors of plugins: a scriptable upstream, contracts and two pytest fixtures.

    from routerpool.testing import ProviderContract
    from routerpool_lab import Lab

    class TestLab(ProviderContract):
        plugin = Lab

pytest loads this package as a plugin, wherever routerpool is installed. So it imports nothing of the core until a
test asks for it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest

# Installed as editable, our asserts would say nothing but AssertionError; pytest must hear of it before the import.
pytest.register_assert_rewrite("routerpool.testing.provider_contract", "routerpool.testing.strategy_contract")

from routerpool.testing.fixtures import router, upstream  # noqa: E402 - pytest takes fixtures from the plugin's names

if TYPE_CHECKING:
    from routerpool.testing.contracts import ProviderContract, StrategyContract
    from routerpool.testing.forms import Form
    from routerpool.testing.routers import Witness, make_router
    from routerpool.testing.upstream import Upstream

__all__ = ["Form", "ProviderContract", "StrategyContract", "Upstream", "Witness", "make_router", "router", "upstream"]

_HOME_OF = {
    "Form": "forms",
    "ProviderContract": "contracts",
    "StrategyContract": "contracts",
    "Upstream": "upstream",
    "Witness": "routers",
    "make_router": "routers",
}


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module 'routerpool.testing' has no attribute {name!r}")
    return getattr(import_module(f"routerpool.testing.{home}"), name)
