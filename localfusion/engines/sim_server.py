"""A SimEngine behind HTTP, with vLLM's routes, flags and log lines: a real child without a model.

    python -m localfusion.engines.sim_server --uds PATH --served-model-name NAME [--failure die ...]

Takes vLLM's command line; flags of vLLM that mean nothing here are ignored, on purpose.
"""

import argparse
import asyncio
import json
import logging
import socket
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, get_args

from localfusion.engines.base import PhaseChange
from localfusion.engines.sim import (
    DEFAULT_TEXT,
    FailureKind,
    SimEngine,
    SimFailure,
    StartFailure,
)
from localfusion.engines.sim_latency import PROFILES, SimProfile
from localfusion.errors import EngineStartError
from localfusion.types import Prompt

if TYPE_CHECKING:
    import uvicorn

_log = logging.getLogger(__name__)

WATCHDOG_SECONDS = 5.0
"""From a core's death to the end of the server, as in vLLM 0.32."""
_PAUSE = "import signal; signal.pause()"


def main(argv: Sequence[str] | None = None) -> None:
    """Serve until a signal ends it."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(levelname)s %(message)s")
    args = _parser().parse_known_args(argv)[0]
    asyncio.run(_serve(args))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="sim_server", allow_abbrev=False)
    parser.add_argument("--model", help="folder of the weights; only named, never read")
    parser.add_argument("--served-model-name", help="default: sim")
    parser.add_argument("--uds", help="unix socket to bind")
    parser.add_argument("--port", type=int, help="port on 127.0.0.1, without --uds")
    parser.add_argument("--max-model-len", type=int, default=4096)
    parser.add_argument("--max-num-seqs", type=int)
    parser.add_argument("--block-size", type=int)
    parser.add_argument("--max-num-batched-tokens", type=int)
    parser.add_argument(
        "--enable-prefix-caching", action=argparse.BooleanOptionalAction, default=True
    )
    parser.add_argument("--text", default=DEFAULT_TEXT, help="what it says")
    parser.add_argument("--echo", action="store_true", help="say the last message instead")
    parser.add_argument("--reasoning", default="", help="what it says before, as reasoning")
    parser.add_argument("--verdict", type=json.loads, help="JSON: probability of each first token")
    parser.add_argument("--delay", type=float, default=0.0, help="seconds to the first token")
    parser.add_argument("--profile", choices=sorted(PROFILES), default="instant")
    parser.add_argument("--start-seconds", type=float)
    parser.add_argument("--failure", choices=get_args(FailureKind))
    parser.add_argument("--at-token", type=int, default=0)
    parser.add_argument("--failure-seconds", type=float, default=1.0)
    parser.add_argument("--after-calls", type=int, default=0, help="calls that do not fail")
    parser.add_argument("--start-failure", choices=get_args(StartFailure))
    parser.add_argument("--core", action="store_true", help="have a process to compute in")
    parser.add_argument("--enable-sleep-mode", action="store_true")
    return parser


def _build_engine(args: argparse.Namespace) -> SimEngine:
    given = {
        "max_num_seqs": args.max_num_seqs,
        "max_num_batched_tokens": args.max_num_batched_tokens,
        "block_size": args.block_size,
        "caches_prefixes": args.enable_prefix_caching,
        "start_seconds": args.start_seconds,
    }
    profile = replace(PROFILES[args.profile], **{k: v for k, v in given.items() if v is not None})
    if args.enable_sleep_mode:
        profile = replace(profile, sleep_seconds=0.0)
    failure = None
    if args.failure is not None:
        failure = SimFailure(args.failure, args.at_token, args.failure_seconds)
    engine: SimEngine = SimEngine(
        _echo if args.echo else args.text,
        name=args.served_model_name or "sim",
        delay=args.delay,
        profile=profile,
        failure=lambda _: failure if len(engine.calls) > args.after_calls else None,
        reasoning=args.reasoning,
        verdict=args.verdict,
        max_model_len=args.max_model_len,
    )
    if args.start_failure is not None:
        engine.fail_starts(1, args.start_failure)
    return engine


def _echo(prompt: Prompt) -> str:
    return prompt.messages[-1].content


async def _serve(args: argparse.Namespace) -> None:
    import uvicorn

    from localfusion.engines.sim_app import create_app

    engine = _build_engine(args)
    # Bound before loading, as vLLM does: until uvicorn listens, connections are refused.
    with _bind(args) as bound:
        _log.info("Starting to load model %s...", args.model)
        _log.info("Loading safetensors checkpoint shards: %3d%%", 0)
        await _start(engine)
        _log.info("Loading safetensors checkpoint shards: %3d%%", 100)
        if args.failure == "refuse":
            await asyncio.Event().wait()
        _log.info("GPU KV cache size: %s tokens", f"{_capacity(engine.profile):,}")
        _log.info("Starting vLLM server on %s", args.uds or f"http://127.0.0.1:{args.port}")
        config = uvicorn.Config(
            create_app(engine), log_level="warning", lifespan="off", timeout_graceful_shutdown=1
        )
        server = uvicorn.Server(config)
        async with asyncio.TaskGroup() as group:
            core = group.create_task(_have_core(engine, server)) if args.core else None
            await server.serve(sockets=[bound])
            if core is not None:
                core.cancel()


async def _start(engine: SimEngine) -> None:
    try:
        await engine.start(_log_phase)
    except EngineStartError as error:
        _log.error("%s", error)
        sys.exit(1)


async def _have_core(engine: SimEngine, server: "uvicorn.Server") -> None:
    """Have a process that the engine dies with, as vLLM's API process has its engine core."""
    core = await asyncio.create_subprocess_exec(sys.executable, "-I", "-S", "-c", _PAUSE)
    try:
        await core.wait()
        _log.error("EngineCore died unexpectedly")
        engine.kill()
        await asyncio.sleep(WATCHDOG_SECONDS)
        server.should_exit = True
    finally:
        if core.returncode is None:
            core.kill()


def _bind(args: argparse.Namespace) -> socket.socket:
    if args.uds is not None:
        bound = socket.socket(socket.AF_UNIX)
        bound.bind(args.uds)
    else:
        bound = socket.socket(socket.AF_INET)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(("127.0.0.1", args.port or 8000))
    return bound


def _log_phase(change: PhaseChange) -> None:
    _log.info("%s is %s", change.engine, change.phase)


def _capacity(profile: SimProfile) -> int:
    return profile.num_blocks * profile.block_size


if __name__ == "__main__":
    main()
