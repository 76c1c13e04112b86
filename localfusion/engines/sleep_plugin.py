"""Routes that let a vLLM server sleep and wake, without vLLM's development mode.

vLLM has such routes of its own only beside others that run code (``/collective_rpc``). This is an
endpoint plugin: loaded by the engine, in its own process, from the entry point of our package; the
gateway imports nothing of it. Source: vllm/plugins/endpoint_plugins/interface.py of vLLM 0.32.
"""

import argparse
from typing import Protocol

from starlette.applications import Starlette
from starlette.datastructures import State
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

ROUTE = "/localfusion"


class EngineClient(Protocol):
    """The part of vLLM's interface of the same name that is needed here."""

    async def sleep(self, level: int, mode: str) -> None: ...

    async def wake_up(self, tags: list[str] | None = None) -> bool: ...

    async def is_sleeping(self) -> bool: ...


class SleepPlugin:
    """``POST /localfusion/sleep`` and ``…/wake``, ``GET /localfusion/state``."""

    name = "localfusion"
    required_tasks = ("generate",)

    def __init__(self) -> None:
        self._client: EngineClient | None = None

    def attach_router(self, app: Starlette) -> None:
        app.add_route(f"{ROUTE}/sleep", self._sleep, methods=["POST"])
        app.add_route(f"{ROUTE}/wake", self._wake, methods=["POST"])
        app.add_route(f"{ROUTE}/state", self._tell, methods=["GET"])

    async def init_state(
        self, engine_client: EngineClient | None, state: State, args: argparse.Namespace
    ) -> None:
        """Take the engine; vLLM calls this once, after ``attach_router``."""
        self.attach_engine(engine_client, can_sleep=args.enable_sleep_mode)

    def attach_engine(self, client: EngineClient | None, *, can_sleep: bool) -> None:
        self._client = client if can_sleep else None

    async def _sleep(self, request: Request) -> Response:
        if self._client is None:
            return _refusal()
        # Level 1 keeps the weights, in main memory. "wait", for a sleep amid requests has crashed
        # engines (vllm-project/vllm#28714).
        await self._client.sleep(1, "wait")
        return await self._tell(request)

    async def _wake(self, request: Request) -> Response:
        if self._client is None:
            return _refusal()
        await self._client.wake_up()
        return await self._tell(request)

    async def _tell(self, _: Request) -> Response:
        is_asleep = self._client is not None and await self._client.is_sleeping()
        return JSONResponse({"can_sleep": self._client is not None, "is_asleep": is_asleep})


def _refusal() -> Response:
    message = "this engine was not started with --enable-sleep-mode"
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": 409}
    return JSONResponse({"error": error}, status_code=409)
