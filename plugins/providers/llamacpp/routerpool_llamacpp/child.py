"""The engine, in a process of its own: `python -m routerpool_llamacpp.child`.

It reads one line of JSON from its parent, loads the model, and writes one line back: `{"address": "http://…"}`, or
`{"error": "…"}`. It ends when its input does, so that no engine outlives a parent that was killed.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

__all__ = ["main"]


def main() -> None:
    """Serve until the parent closes our input."""
    options = json.loads(sys.stdin.readline())
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the engine prints goes where errors go, and never between our lines
    try:
        engine = _engine(options)
    except RuntimeError:
        _tell(answers, {"error": "unloadable"})
        return
    _tell(answers, {"address": engine.listening_address})
    sys.stdin.read()
    os._exit(0)  # the engine would first wait for the streams under way


def _engine(options: dict[str, Any]) -> Any:
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = options["model"]
    params.model_alias = {options["alias"]}
    params.hostnames, params.port, params.api_keys = ["127.0.0.1"], options["port"], [options["key"]]
    params.n_parallel = options["parallel"]
    params.n_ctx = options["context"] * options["parallel"]  # the engine divides it among its slots
    if options["threads"] is not None:
        params.cpuparams.n_threads = options["threads"]
    if options["gpu_layers"] is not None:
        params.n_gpu_layers = options["gpu_layers"]
    params.ui = False
    params.verbosity = 0
    params.endpoint_metrics = True
    return xllamacpp.Server(params)


def _tell(answers: Any, message: dict[str, str]) -> None:
    answers.write(json.dumps(message) + "\n")
    answers.flush()


if __name__ == "__main__":
    main()
