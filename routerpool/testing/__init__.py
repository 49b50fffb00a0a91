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
KIT = ("provider_contract", "live", "scanner_contract", "strategy_contract", "mutator_contract", "plugin_contract")
pytest.register_assert_rewrite(*(f"routerpool.testing.{name}" for name in KIT))

# pytest takes fixtures from this module's names, of which `upstream` is the submodule's once somebody imports that.
from routerpool.testing.fixtures import router, scriptable_upstream  # noqa: E402

if TYPE_CHECKING:
    from routerpool.testing.contracts import (
        MutatorContract,
        PluginContract,
        ProviderContract,
        ScannerContract,
        StrategyContract,
    )
    from routerpool.testing.forms import Form, read_forms
    from routerpool.testing.routers import Witness, make_router
    from routerpool.testing.upstream import Upstream

__all__ = [
    "Form",
    "MutatorContract",
    "PluginContract",
    "ProviderContract",
    "ScannerContract",
    "StrategyContract",
    "Upstream",
    "Witness",
    "make_router",
    "read_forms",
    "router",
    "scriptable_upstream",
]

_HOME_OF = {
    "Form": "forms",
    "MutatorContract": "contracts",
    "PluginContract": "contracts",
    "ProviderContract": "contracts",
    "ScannerContract": "contracts",
    "StrategyContract": "contracts",
    "Upstream": "upstream",
    "Witness": "routers",
    "make_router": "routers",
    "read_forms": "forms",
}


def pytest_configure(config: pytest.Config) -> None:
    """The marker of the contract's tests that leave this machine."""
    config.addinivalue_line("markers", "live: asks the real provider with the key that is set; runs with -m live only")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave those tests out unless they are asked for: nobody's quota is spent by accident."""
    if "live" in config.getoption("markexpr"):
        return
    live = [item for item in items if item.get_closest_marker("live")]
    if live:
        config.hook.pytest_deselected(items=live)
        items[:] = [item for item in items if not item.get_closest_marker("live")]


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module 'routerpool.testing' has no attribute {name!r}")
    return getattr(import_module(f"routerpool.testing.{home}"), name)
