"""The contracts: classes of tests that a plugin's own tests inherit, so that all plugins of a kind owe the same."""

from __future__ import annotations

from routerpool.testing.mutator_contract import MutatorContract
from routerpool.testing.plugin_contract import PluginContract
from routerpool.testing.provider_contract import Got, ProviderContract, Rig
from routerpool.testing.scanner_contract import ScannerContract
from routerpool.testing.strategy_contract import StrategyContract

__all__ = ["Got", "MutatorContract", "PluginContract", "ProviderContract", "Rig", "ScannerContract", "StrategyContract"]
