"""routerpool, an LLM router: one address for every client, each request to the cheapest model that will do it well.

What plugin authors and hosts need stands here by name and is imported when it is first used, so that
`import routerpool` costs nothing and touches nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from routerpool.version import VERSION

if TYPE_CHECKING:
    from routerpool.config import Config as Config
    from routerpool.errors import AnswerError as AnswerError
    from routerpool.errors import ConfigError as ConfigError
    from routerpool.errors import PluginError as PluginError
    from routerpool.errors import RequestError as RequestError
    from routerpool.errors import RouterpoolError as RouterpoolError
    from routerpool.errors import Unavailable as Unavailable
    from routerpool.guide import ASSIGNMENT as ASSIGNMENT
    from routerpool.guide import middleware as middleware
    from routerpool.handover import Assignment as Assignment
    from routerpool.handover import Handover as Handover
    from routerpool.hookspecs import hookimpl as hookimpl
    from routerpool.protocols import Provider as Provider
    from routerpool.protocols import Rewriter as Rewriter
    from routerpool.provider import OpenAIProvider as OpenAIProvider
    from routerpool.provider import ProviderConfig as ProviderConfig
    from routerpool.provider_data import ModelData as ModelData
    from routerpool.responses import read_json as read_json
    from routerpool.router import Router as Router
    from routerpool.scanning import Match as Match
    from routerpool.scanning import ScannerConfig as ScannerConfig
    from routerpool.scanning import TextScanner as TextScanner
    from routerpool.server import CALLER as CALLER
    from routerpool.server import ROUTER as ROUTER
    from routerpool.server import create_app as create_app
    from routerpool.server import setup as setup
    from routerpool.types import Answer as Answer
    from routerpool.types import Attempt as Attempt
    from routerpool.types import Caller as Caller
    from routerpool.types import Candidate as Candidate
    from routerpool.types import ChatRequest as ChatRequest
    from routerpool.types import Decision as Decision
    from routerpool.types import Detected as Detected
    from routerpool.types import Failure as Failure
    from routerpool.types import FailureKind as FailureKind
    from routerpool.types import Features as Features
    from routerpool.types import Finding as Finding
    from routerpool.types import Hints as Hints
    from routerpool.types import Level as Level
    from routerpool.types import Model as Model
    from routerpool.types import Opening as Opening
    from routerpool.types import Outcome as Outcome
    from routerpool.types import Plan as Plan
    from routerpool.types import Prices as Prices
    from routerpool.types import Privacy as Privacy
    from routerpool.types import Probe as Probe
    from routerpool.types import Report as Report
    from routerpool.types import Score as Score
    from routerpool.types import Tier as Tier
    from routerpool.types import Usage as Usage
    from routerpool.types import UsageRecord as UsageRecord
    from routerpool.types import Veto as Veto

__version__ = VERSION

_HOMES = {
    "config": ("Config",),
    "errors": ("AnswerError", "ConfigError", "PluginError", "RequestError", "RouterpoolError", "Unavailable"),
    "hookspecs": ("hookimpl",),
    "protocols": ("Provider", "Rewriter"),
    "provider": ("OpenAIProvider", "ProviderConfig"),
    "provider_data": ("ModelData",),
    "handover": ("Assignment", "Handover"),
    "guide": ("ASSIGNMENT", "middleware"),
    "responses": ("read_json",),
    "router": ("Router",),
    "scanning": ("Match", "ScannerConfig", "TextScanner"),
    "server": ("CALLER", "ROUTER", "create_app", "setup"),
    "types": (
        "Answer",
        "Attempt",
        "Caller",
        "Candidate",
        "ChatRequest",
        "Decision",
        "Detected",
        "Failure",
        "FailureKind",
        "Features",
        "Finding",
        "Hints",
        "Level",
        "Model",
        "Opening",
        "Outcome",
        "Plan",
        "Prices",
        "Privacy",
        "Probe",
        "Report",
        "Score",
        "Tier",
        "Usage",
        "UsageRecord",
        "Veto",
    ),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = sorted([*_HOME_OF, "__version__"])  # noqa: PLE0605 (made from the table above, so that the two cannot differ)


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module 'routerpool' has no attribute {name!r}")
    value = getattr(import_module(f"routerpool.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return list(__all__)
