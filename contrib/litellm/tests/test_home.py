"""The one router of a process: started once, made anew when LiteLLM's deployments change, let go in good order."""

from __future__ import annotations

import asyncio
import importlib
import re
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from routerpool_litellm.testing import NOT_INSTALLED

pytestmark = [
    pytest.mark.real,
    pytest.mark.anyio,
    pytest.mark.skipif(find_spec("litellm") is None, reason=NOT_INSTALLED),
    pytest.mark.filterwarnings("ignore"),  # LiteLLM warns of itself and of pydantic when it is imported
    pytest.mark.usefixtures("silent"),
]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def litellm(deploys: Callable[..., None]) -> Callable[..., None]:
    """Says which deployments LiteLLM has, of these models."""

    def has(*models: str) -> None:
        deploys([{"model_name": "auto", "litellm_params": {"model": m}, "model_info": {"id": m}} for m in models])

    return has


CHAT = {"messages": [{"role": "user", "content": "Hello"}]}


async def test_all_who_ask_at_once_get_the_same_router(litellm: Callable[..., None]) -> None:
    from routerpool_litellm.home import HOMES, home

    litellm("openai/m1")
    found = await asyncio.gather(*(home() for _ in range(8)))
    assert len({id(residence) for residence in found}) == 1
    assert [c.key for c in found[0].router.catalog.snapshot.candidates] == ["litellm-openai/m1"]
    await HOMES[asyncio.get_running_loop()].close()
    assert found[0].task is not None
    assert found[0].task.done()


async def test_another_list_of_deployments_makes_another_router_and_the_old_one_ends_its_work(
    litellm: Callable[..., None],
) -> None:
    from routerpool_litellm.home import HOMES, home

    from routerpool import Usage

    litellm("openai/m1")
    old = await home()
    request = old.router.request(CHAT)
    with old.deployments.offered(request, old.deployments.all):
        plan = await old.router.hand_over(request)
    litellm("openai/m1", "openai/m2")
    new = await home()
    assert new is not old
    assert len(new.deployments.all) == 2
    async with old.visit():
        assert await old.router.report(plan, Usage(output=1)) is None
        await asyncio.sleep(0)
        assert old.task is not None
        assert not old.task.done(), "somebody is still served"
    await asyncio.wait((old.task,), timeout=5)
    assert old.task.done()
    await HOMES[asyncio.get_running_loop()].close()


async def test_a_file_that_is_wrong_is_read_again_when_it_has_been_mended(
    litellm: Callable[..., None], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from routerpool_litellm.home import HOMES, home
    from routerpool_litellm.host import Refused, refusing

    litellm("openai/m1")
    file = tmp_path / "routerpool.yaml"
    right = file.read_text()
    file.write_text("plugins: {free_first: {wrong: 1}}\n")
    with pytest.raises(Refused, match="its log says why"), refusing():
        await home()
    assert "free_first" in caplog.text
    file.write_text(right)
    assert (await home()).deployments.all
    await HOMES[asyncio.get_running_loop()].close()


def test_the_file_is_that_of_the_environment_or_the_one_beside_litellms(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from routerpool_litellm import home

    monkeypatch.delenv("ROUTERPOOL_CONFIG", raising=False)
    monkeypatch.setattr(home, "config_folder", lambda: tmp_path)
    assert home.config_path() is None, "then it is looked up as everywhere"
    (tmp_path / "routerpool.yaml").write_text("plugins: {}\n")
    assert home.config_path() == tmp_path / "routerpool.yaml"
    monkeypatch.setenv("ROUTERPOOL_CONFIG", "/elsewhere.yaml")
    assert home.config_path() == Path("/elsewhere.yaml")


async def test_a_copy_of_litellms_metadata_carries_the_same_errand() -> None:
    import copy

    from routerpool_litellm.errand import carry, errand_of

    data: dict[str, Any] = {"model": "auto", "messages": CHAT["messages"], "metadata": {"headers": {"x-a": "b"}}}
    errand = carry(data)
    assert carry(copy.deepcopy(data)) is errand
    assert errand_of({"litellm_metadata": data["metadata"]}) is errand
    assert "Hello" not in repr(data["metadata"])


def test_every_dotted_path_that_the_readme_names_is_there() -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    paths = set(re.findall(r"\brouterpool_litellm\.(\w+)\.(\w+)", readme))
    assert {module for module, _ in paths} >= {"hooks", "routing", "takeover", "guard", "llm"}
    for module, name in paths:
        assert hasattr(importlib.import_module(f"routerpool_litellm.{module}"), name), f"{module}.{name}"
