"""How vLLM engines are made able to sleep: flags, environment, and the plugin that they load."""

import tomllib
from argparse import Namespace
from collections.abc import AsyncIterator
from importlib import import_module
from pathlib import Path

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.datastructures import State

from localfusion.engines.sleep_plugin import SleepPlugin
from localfusion.engines.vllm_command import command_line, environment
from tests.engines.kinds import Script, collect, ignore, make_slot, text_of, vllm_engine

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.parametrize("sleeps", [True, False])
def test_engine_learns_to_sleep_only_where_the_plan_wants_it(tmp_path: Path, sleeps: bool) -> None:
    slot = make_slot(can_sleep=sleeps)

    arguments = command_line("a", tmp_path, slot, tmp_path / "a.sock", {})
    env = environment(slot, tmp_path, tmp_path)

    assert ("--enable-sleep-mode" in arguments) == sleeps
    assert env["VLLM_PLUGINS"] == ("localfusion" if sleeps else "")
    assert env["VLLM_SERVER_DEV_MODE"] == "0"


def test_entry_point_names_the_plugin() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    entries: dict[str, str] = project["entry-points"]["vllm.endpoint_plugins"]

    for name, target in entries.items():
        module, _, attribute = target.partition(":")
        plugin = getattr(import_module(module), attribute)()
        assert isinstance(plugin, SleepPlugin)
        assert plugin.name == name


class _Core:
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[object] = []

    async def sleep(self, level: int, mode: str) -> None:
        self.told.append((level, mode))

    async def wake_up(self, tags: list[str] | None = None) -> bool:
        self.told.append(tags)
        return True

    async def is_sleeping(self) -> bool:
        return len(self.told) % 2 == 1


@pytest.fixture
def core() -> _Core:
    return _Core()


@pytest.fixture
async def client(request: pytest.FixtureRequest, core: _Core) -> AsyncIterator[httpx2.AsyncClient]:
    app, plugin = Starlette(), SleepPlugin()
    plugin.attach_router(app)
    await plugin.init_state(core, State(), Namespace(enable_sleep_mode=request.param))
    transport = httpx2.ASGITransport(app=app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://engine") as client:
        yield client


@pytest.mark.parametrize("client", [True], indirect=True)
async def test_plugin_keeps_the_weights_and_waits_for_requests(
    client: httpx2.AsyncClient, core: _Core
) -> None:
    asleep = (await client.post("/localfusion/sleep")).json()
    awake = (await client.post("/localfusion/wake")).json()

    assert core.told == [(1, "wait"), None]
    assert asleep == {"can_sleep": True, "is_asleep": True}
    assert awake == {"can_sleep": True, "is_asleep": False}


@pytest.mark.parametrize("client", [False], indirect=True)
async def test_plugin_refuses_in_an_engine_that_was_not_started_for_it(
    client: httpx2.AsyncClient, core: _Core
) -> None:
    state = (await client.get("/localfusion/state")).json()
    sleep = await client.post("/localfusion/sleep")
    wake = await client.post("/localfusion/wake")

    assert state == {"can_sleep": False, "is_asleep": False}
    assert (sleep.status_code, wake.status_code, core.told) == (409, 409, [])
    assert "--enable-sleep-mode" in sleep.json()["error"]["message"]


async def test_engine_without_the_plugin_cannot_sleep(run_dir: Path) -> None:
    """Its Python may be another one, where localfusion is not installed."""
    without = {"enable_sleep_mode": False}
    engine = vllm_engine(Script("fine", can_sleep=True), run_dir, options=without)

    await engine.start(ignore)

    assert not engine.can_sleep
    assert text_of(await collect(engine)) == "fine"
    await engine.stop()
