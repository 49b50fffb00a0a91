"""What a single value may be: sizes, numbers, truth values, and what a variable may become."""

from __future__ import annotations

import pytest

from routerpool.config.reading import load
from routerpool.types import Privacy

from ..support.settings import ENV, complaints


@pytest.mark.parametrize(
    ("written", "read_as"),
    [("32MiB", 32 << 20), ("20MB", 20_000_000), ("5 kB", 5000), ("7B", 7), ("1GiB", 1 << 30), ("4096", 4096)],
)
def test_sizes_are_numbers_or_carry_a_unit(written: str, read_as: int) -> None:
    config, problems = load(text=f"limits: {{request_bytes: {written}}}", env=ENV)

    assert not problems
    assert config.limits.request_bytes == read_as


@pytest.mark.parametrize("written", ["32Mib", "1.5MiB", "MiB", "'4096'", "-1", "0", "1TiB", "true", "1 000"])
def test_other_sizes_are_refused(written: str) -> None:
    assert len(complaints(f"limits: {{request_bytes: {written}}}")) == 1


def test_only_variables_may_become_numbers_and_truth_values() -> None:
    text = (
        "server: {port: '${PORT}', allow_unauthenticated: '${OPEN}'}\n"
        "limits: {idle_seconds: '${IDLE}', request_bytes: '${BYTES}'}\nprivacy: {default: '${CLASS}'}\n"
    )
    env = ENV | {"PORT": "8080", "OPEN": "true", "IDLE": "2.5", "BYTES": "1024", "CLASS": "secret"}
    config, problems = load(text=text, env=env)

    assert not problems
    assert (config.server.port, config.server.allow_unauthenticated) == (8080, True)
    assert (config.limits.idle_seconds, config.limits.request_bytes) == (2.5, 1024)
    assert config.privacy.default is Privacy.SECRET


@pytest.mark.parametrize("value", ["08", " 8080", "0x10", "8080.0", "", "yes", "1e3", "eighty"])
def test_a_variable_for_a_number_is_read_strictly_and_never_printed(value: str) -> None:
    assert complaints("server: {port: '${PORT}'}", ENV | {"PORT": value}) == [
        "1: server.port: expected a whole number, got what ${PORT} holds"
    ]
