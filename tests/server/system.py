"""A gateway of SimEngines, and the same on a real port."""

import asyncio
import ssl
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import httpx2
from openai import AsyncOpenAI

from localfusion.config import Preset, Settings, TraceSettings
from localfusion.engines.base import PhaseChange
from localfusion.engines.sim import SimEngine
from localfusion.events import Event
from localfusion.fusion import Fusion
from localfusion.overview import EngineRow
from localfusion.pool import Waiting
from localfusion.server.access import Access
from localfusion.server.connection import ConnectionLimits
from localfusion.server.serving import listen, serve
from localfusion.telemetry import Telemetry
from localfusion.traces import Traces, Versions, open_traces

CHAT = "/v1/chat/completions"


def stalled() -> SimEngine:
    """An engine that takes a call and then says nothing."""
    return SimEngine(delay=3600)


def body(text: str = "How many pens?", **fields: object) -> dict[str, object]:
    return {"model": "localfusion/trio", "messages": [{"role": "user", "content": text}], **fields}


@dataclass
class SimGateway:
    """Preset ``trio``: members a, b, c; judge d."""

    engines: Mapping[str, SimEngine]
    settings: Settings
    draining: bool = False
    reasons: tuple[str, ...] = ()
    traces: Traces = field(default_factory=Traces)
    fusion: Fusion = field(init=False)
    telemetry: Telemetry = field(init=False)

    def __post_init__(self) -> None:
        self.telemetry = Telemetry(self.settings, traces=lambda: self.traces.writing)
        self.observe()

    def observe(self, *observers: Callable[[Event], None]) -> None:
        """Answer from now on with these observers."""
        self.fusion = Fusion(
            self.engines,
            self.settings.presets,
            default_preset=next(iter(self.settings.presets)),
            observers=[*observers, *self.telemetry.observers],
            aliases=self.settings.aliases,
        )

    def phases(self) -> Mapping[str, PhaseChange]:
        return {name: PhaseChange(name, "ready", 1.5) for name in self.engines}

    def not_ready(self) -> tuple[str, ...]:
        return self.reasons

    # What steers engines is tested on a real runtime, in test_engines.py.

    @property
    def queue(self) -> tuple[Waiting, ...]:
        return ()

    @property
    def notes(self) -> tuple[str, ...]:
        return ()

    async def look(self) -> tuple[EngineRow, ...]:
        return ()

    async def load(self, name: str) -> None:
        raise AssertionError(name)

    async def unload(self, name: str) -> None:
        raise AssertionError(name)

    async def reload(self) -> tuple[str, ...]:
        raise AssertionError

    @property
    def aborts(self) -> dict[str, int]:
        return {name: engine.aborts for name, engine in self.engines.items() if engine.aborts}

    @property
    def calls(self) -> int:
        return sum(len(engine.calls) for engine in self.engines.values())

    async def wait_for_calls(self, engine: str, count: int = 1) -> None:
        await until(lambda: len(self.engines[engine].calls) >= count)

    async def wait_for_aborts(self, *engines: str) -> None:
        await until(lambda: all(self.engines[name].aborts for name in engines))


async def on_disk(system: SimGateway, id: str) -> None:
    """Wait until the trace of a run that has ended is on disk, and its words can be searched."""
    # On a busy machine an acknowledgement may come too late for a client; a test has the time.
    assert not await system.traces.delete("0" * 32)  # comes behind all that has happened
    assert await system.traces.get(id) is not None


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop turn until something is so; pytest's time limit ends a vain wait."""
    while not condition():  # noqa: ASYNC110  SimEngine has no event to wait for
        await asyncio.sleep(0)


def gateway(
    *,
    server: Mapping[str, object] | None = None,
    limits: Mapping[str, object] | None = None,
    preset: Mapping[str, object] | None = None,
    engines: Mapping[str, SimEngine] | None = None,
    aliases: Mapping[str, str] | None = None,
    **more: SimEngine,
) -> SimGateway:
    given = {**(engines or {}), **more}
    texts = {"a": "Eighteen.", "b": "8 euros.", "c": "Twelve.", "d": "They cost 8 euros in all."}
    sims = {name: given.get(name) or SimEngine(text, name=name) for name, text in texts.items()}
    model = {"engine": "sim", "license": "Apache-2.0", "origin": "nobody"}
    settings = Settings.model_validate(
        {
            "default_preset": {"gpu": "trio", "cpu": "trio"},
            "models": dict.fromkeys(sims, model),
            "presets": {
                "trio": Preset.model_validate(
                    {
                        "panel": ["a", "b", "c"],
                        "judge": "d",
                        "prefill": False,  # what the judge's engine is asked then is countable
                        "options": {"analysis": "separate"},
                        **(preset or {}),
                    }
                )
            },
            "aliases": aliases or {},
            "server": server or {},
            "limits": limits or {},
        }
    )
    return SimGateway(sims, settings)


@asynccontextmanager
async def traced(
    folder: Path,
    system: SimGateway | None = None,
    *,
    access: Access | None = None,
    content: Literal["full", "hash", "none"] = "full",
) -> AsyncGenerator["Served", None]:
    """Serve a gateway whose runs are kept."""
    system = system or gateway()
    async with open_traces(TraceSettings(content=content), folder) as traces:
        system.traces = traces
        system.observe(traces.observer(lambda _: Versions("0.1")))
        async with served(system, access=access) as server:
            yield server


@dataclass(frozen=True)
class Served:
    """A gateway on a loopback port, with plain and official clients."""

    gateway: SimGateway
    url: str
    http: httpx2.AsyncClient
    openai: AsyncOpenAI
    task: asyncio.Task[None]


@asynccontextmanager
async def served(
    system: SimGateway | None = None,
    *,
    access: Access | None = None,
    tls: tuple[Path, Path] | None = None,
    connections: ConnectionLimits | None = None,
) -> AsyncGenerator[Served, None]:
    """Serve a gateway for the length of a block, on the real uvicorn.

    Args:
        system: What answers.
        access: Who may call.
        tls: Certificate and key; the clients then trust this certificate.
        connections: What each may do.
    """
    system = system or gateway()
    listener = listen("127.0.0.1", 0)
    port = listener.getsockname()[1]
    url = f"http://127.0.0.1:{port}" if tls is None else f"https://localhost:{port}"
    trust = True if tls is None else ssl.create_default_context(cafile=tls[0])
    listening = asyncio.Event()
    async with (
        asyncio.TaskGroup() as group,
        httpx2.AsyncClient(base_url=url, timeout=20, trust_env=False, verify=trust) as http,
        AsyncOpenAI(
            base_url=f"{url}/v1",
            api_key="none",
            max_retries=0,
            timeout=20,
            _strict_response_validation=True,
        ) as openai,
    ):
        serving = serve(
            system,
            listener,
            access=access,
            tls=tls,
            connections=connections,
            on_listening=listening.set,
        )
        server = group.create_task(serving)
        await listening.wait()
        yield Served(system, url, http, openai, server)
        server.cancel()
