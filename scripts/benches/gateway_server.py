"""The server process of ``scripts/bench gateway``: ours on simulated engines, or a bare echo.

python -m benches.gateway_server ours|kept|echo [SECONDS]     kept: ours with traces, as it usually
runs; SECONDS between tokens; prints its port
"""

import asyncio
import json
import sys
import tempfile
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from localfusion.config import Settings, TraceSettings
from localfusion.engines.base import PhaseChange
from localfusion.engines.sim import SimEngine
from localfusion.engines.sim_latency import SimProfile
from localfusion.fusion import Fusion
from localfusion.overview import EngineRow
from localfusion.pool import Waiting
from localfusion.server.serving import listen, serve
from localfusion.telemetry import Telemetry
from localfusion.traces import Traces, Versions, open_traces
from localfusion.types import Delta, Prompt

CHAT = "/v1/chat/completions"
USUAL = 100
"""Tokens of an answer."""
WORDS = ["word"] * 2000
"""What engines and echo say, a token each; requests limit it."""
MEMBERS = ("a", "b", "c")
JUDGE = "d"
PRESET = "trio"
AT_ONCE = 64
"""Requests that an engine runs at once; the load has fewer."""


class ForgetfulEngine(SimEngine):
    """Keeps no record of its calls, for memory is measured here."""

    def generate(self, prompt: Prompt) -> AsyncGenerator[Delta, None]:
        self.calls.clear()
        return super().generate(prompt)


def engine(name: str, gap: float = 0.0) -> SimEngine:
    """Return an engine that says ``WORDS``, one every ``gap`` seconds."""
    profile = SimProfile(inter_token=gap, max_num_seqs=AT_ONCE, num_blocks=1 << 14)
    return ForgetfulEngine(" ".join(WORDS), name=name, profile=profile)


@dataclass
class BenchGateway:
    """Members a, b, c and judge d, always ready."""

    gap: float
    settings: Settings = field(init=False)
    fusion: Fusion = field(init=False)
    telemetry: Telemetry = field(init=False)
    draining: bool = False
    queue: Sequence[Waiting] = ()
    notes: Sequence[str] = ()
    traces: Traces = field(default_factory=Traces)

    def __post_init__(self) -> None:
        names = (*MEMBERS, JUDGE)
        model = {"engine": "sim", "license": "Apache-2.0", "origin": "nobody"}
        preset = {
            "panel": list(MEMBERS),
            "judge": JUDGE,
            "prefill": False,  # so that a request is a known number of calls
            "panel_max_tokens": USUAL,
            "options": {"analysis": "none"},
        }
        self.settings = Settings.model_validate(
            {
                "default_preset": {"gpu": PRESET, "cpu": PRESET},
                "models": dict.fromkeys(names, model),
                "presets": {PRESET: preset},
            }
        )
        engines = {name: engine(name, self.gap) for name in names}
        self.telemetry = Telemetry(self.settings)
        self.fusion = Fusion(
            engines,
            self.settings.presets,
            default_preset=PRESET,
            observers=[self.traces.observer(lambda _: Versions()), *self.telemetry.observers],
        )

    def phases(self) -> Mapping[str, PhaseChange]:
        return {}

    def not_ready(self) -> tuple[str, ...]:
        return ()

    async def look(self) -> Sequence[EngineRow]:
        return ()

    async def load(self, name: str) -> None:
        raise AssertionError(name)

    async def unload(self, name: str) -> None:
        raise AssertionError(name)

    async def reload(self) -> Sequence[str]:
        raise AssertionError


def echo_app(gap: float) -> Starlette:
    """Return the least that a server of this API does: JSON in, the same chunks out."""

    async def answer(request: Request) -> Response:
        asked = await request.json()
        words = WORDS[: asked["max_tokens"]]
        if not asked["stream"]:
            message = {"role": "assistant", "content": " ".join(words)}
            return JSONResponse(_object("chat.completion", message=message))
        return StreamingResponse(_frames(words, gap), media_type="text/event-stream")

    return Starlette(routes=[Route(CHAT, answer, methods=["POST"])])


async def _frames(words: Sequence[str], gap: float) -> AsyncGenerator[str, None]:
    for word in words:
        await asyncio.sleep(gap)
        chunk = _object("chat.completion.chunk", delta={"content": f" {word}"})
        yield f"data: {json.dumps(chunk)}\n\n"
    yield "data: [DONE]\n\n"


def _object(kind: str, **part: object) -> dict[str, object]:
    choice = {"index": 0, **part, "logprobs": None, "finish_reason": None}
    return {"id": "chatcmpl-0", "object": kind, "created": 0, "model": "a", "choices": [choice]}


async def _serve(kind: str, gap: float) -> None:
    listener = listen("127.0.0.1", 0)
    print(listener.getsockname()[1], flush=True)
    if kind == "ours":
        await serve(BenchGateway(gap), listener)
        return
    if kind == "kept":
        with tempfile.TemporaryDirectory() as folder:
            async with open_traces(TraceSettings(), Path(folder) / "traces") as traces:
                if traces.trouble is not None:  # else the comparison would be with nothing
                    raise traces.trouble
                await serve(BenchGateway(gap, traces=traces), listener)
        return
    config = uvicorn.Config(  # as localfusion.server.serving has it
        echo_app(gap),
        http="httptools",
        ws="none",
        lifespan="off",
        proxy_headers=False,
        server_header=False,
        access_log=False,
        log_config=None,
        log_level="critical",
    )
    await uvicorn.Server(config).serve(sockets=[listener])


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1], float(sys.argv[2]) if len(sys.argv) > 2 else 0.0))
