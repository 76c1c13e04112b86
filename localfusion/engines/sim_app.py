"""A SimEngine as an ASGI application with vLLM's routes; failures are played as vLLM shows them."""

import asyncio
import json
import os
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from localfusion.engines.sim import SimEngine
from localfusion.engines.sleep_plugin import SleepPlugin
from localfusion.errors import (
    EngineError,
    EngineUnavailableError,
    FusionError,
    ModelNotFoundError,
    RequestError,
)
from localfusion.functions import Function, ToolCall, ToolCallDelta, Tools
from localfusion.types import Delta, Effort, Message, Prompt, SamplingParams, Usage

ASGIMessage = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[ASGIMessage]]
Send = Callable[[ASGIMessage], Awaitable[None]]

VERSION = "0.32.0+sim"


def create_app(engine: SimEngine) -> Starlette:
    """Return vLLM's routes, as far as localfusion asks for them, over one engine."""

    async def health(_: Request) -> Response:
        return Response(status_code=200 if engine.is_ready else 503)

    async def version(_: Request) -> Response:
        return JSONResponse({"version": VERSION})

    async def models(_: Request) -> Response:
        facts = {"owned_by": "vllm", "max_model_len": engine.facts.max_model_len}
        model = {"id": engine.name, "object": "model", "root": "/weights/" + engine.name, **facts}
        return JSONResponse({"object": "list", "data": [model]})

    async def tokenize(request: Request) -> Response:
        count = await engine.count_tokens(_read_messages(await request.json()))
        facts = {"count": count, "max_model_len": engine.facts.max_model_len}
        return JSONResponse({**facts, "tokens": list(range(count))})

    async def metrics(_: Request) -> Response:
        return PlainTextResponse(await render_metrics(engine))

    async def chat(request: Request) -> "_Completion":
        return _Completion(engine, await request.json())

    async def refuse(_: Request, error: Exception) -> Response:
        assert isinstance(error, FusionError)
        return JSONResponse(_error_body(error), status_code=error.status)

    routes = [
        Route("/health", health),
        Route("/version", version),
        Route("/v1/models", models),
        Route("/tokenize", tokenize, methods=["POST"]),
        Route("/metrics", metrics),
        Route("/v1/chat/completions", chat, methods=["POST"]),
        Route("/v1/completions", chat, methods=["POST"]),
    ]
    app = Starlette(routes=routes, exception_handlers={FusionError: refuse})
    if engine.can_sleep:
        plugin = SleepPlugin()
        plugin.attach_router(app)
        plugin.attach_engine(_Sleeper(engine), can_sleep=True)
    return app


class _Sleeper:
    """A SimEngine as the sleep plugin sees vLLM."""

    def __init__(self, engine: SimEngine) -> None:
        self._engine = engine

    async def sleep(self, level: int, mode: str) -> None:
        await self._engine.sleep()

    async def wake_up(self, tags: list[str] | None = None) -> bool:
        await self._engine.wake()
        return True

    async def is_sleeping(self) -> bool:
        return self._engine.is_asleep


async def render_metrics(engine: SimEngine) -> str:
    """Return the page of ``/metrics``, with vLLM's names; ``sim:aborts_total`` is our own."""
    stats = await engine.stats()
    labels = f'{{engine="0",model_name="{engine.name}"}}'
    profile = engine.profile
    config = (
        f'{{block_size="{profile.block_size}",'
        f'enable_prefix_caching="{profile.caches_prefixes}",num_gpu_blocks="{profile.num_blocks}"}}'
    )
    values = {
        f"vllm:num_requests_running{labels}": stats.running,
        f"vllm:num_requests_waiting{labels}": stats.waiting,
        f"vllm:kv_cache_usage_perc{labels}": stats.kv_cache_usage,
        f"vllm:generation_tokens_total{labels}": stats.generated_tokens,
        f"vllm:cache_config_info{config}": 1,
        "sim:aborts_total": engine.aborts,
    }
    return "".join(f"{name} {float(value)}\n" for name, value in values.items())


def _read_messages(body: Mapping[str, Any]) -> tuple[Message, ...]:
    try:
        return tuple(_read_message(message) for message in body["messages"])
    except (KeyError, TypeError) as error:
        raise RequestError("messages: a list of role and content is needed") from error


def _read_message(fields: Mapping[str, Any]) -> Message:
    calls = tuple(
        ToolCall(call["id"], call["function"]["name"], call["function"]["arguments"])
        for call in fields.get("tool_calls") or ()
    )
    return Message(fields["role"], fields["content"], calls, fields.get("tool_call_id"))


def _read_tools(body: Mapping[str, Any]) -> Tools | None:
    listed = [tool["function"] for tool in body.get("tools") or ()]
    functions = tuple(
        Function(f["name"], f.get("description") or "", f.get("parameters"), f.get("strict"))
        for f in listed
    )
    choice = body.get("tool_choice", "auto")
    if not functions or choice == "none":
        return None
    only = choice["function"]["name"] if isinstance(choice, dict) else None
    is_forced = only is not None or choice == "required"
    return Tools(
        functions, "required" if is_forced else "auto", only, body.get("parallel_tool_calls")
    )


def _read_prompt(body: Mapping[str, Any]) -> Prompt:
    form = body.get("response_format") or {}
    stop = body.get("stop") or ()
    sampling = SamplingParams(
        temperature=body.get("temperature"),
        max_tokens=body.get("max_completion_tokens") or body.get("max_tokens"),
        stop=(stop,) if isinstance(stop, str) else tuple(stop),
        seed=body.get("seed"),
    )
    raw = body.get("prompt")
    return Prompt(
        _read_messages(body) if raw is None else (),
        sampling,
        raw=raw,
        schema=form.get("json_schema", {}).get("schema"),
        priority=body.get("priority", 0),
        logprobs=body.get("top_logprobs", 0) if body.get("logprobs") else None,
        effort=_read_effort(body),
        tools=_read_tools(body),
        interval=body.get("stream_interval", 1),
    )


def _read_effort(body: Mapping[str, Any]) -> Effort | None:
    switch = body.get("chat_template_kwargs") or {}
    return "none" if switch.get("enable_thinking") is False else body.get("reasoning_effort")


@dataclass(slots=True)
class _Completion:
    """The ASGI response to one chat completion; the client's leaving aborts it, at any time."""

    engine: SimEngine
    body: Mapping[str, Any]

    async def __call__(self, scope: ASGIMessage, receive: Receive, send: Send) -> None:
        async with asyncio.TaskGroup() as group:
            answer = group.create_task(self._answer(scope, receive, send))
            watch = group.create_task(_cancel_when_gone(receive, answer))
            answer.add_done_callback(lambda _: watch.cancel())

    async def _answer(self, scope: ASGIMessage, receive: Receive, send: Send) -> None:
        try:
            if self.body.get("model") != self.engine.name:
                raise ModelNotFoundError(f"The model `{self.body.get('model')}` does not exist.")
            if self.body.get("stream"):
                await self._stream(send)
                return
            response: Response = JSONResponse(await self._collect())
        except FusionError as error:
            _exit_if_dead(error)
            response = JSONResponse(_error_body(error), status_code=error.status)
        await response(scope, receive, send)

    async def _stream(self, send: Send) -> None:
        prompt = _read_prompt(self.body)
        out = _EventStream(send, self.engine.name)
        try:
            async with aclosing(self.engine.generate(prompt)) as deltas:
                async for delta in deltas:
                    await out.send_delta(delta)
        except (RequestError, EngineUnavailableError):
            raise  # before the first token, so they have a status of their own
        except EngineError as error:
            _exit_if_dead(error)
            await out.send_failure(error)
        await out.close()

    async def _collect(self) -> dict[str, object]:
        text, reasoning, last = "", "", Delta()
        async with aclosing(self.engine.generate(_read_prompt(self.body))) as deltas:
            async for last in deltas:
                text, reasoning = text + last.text, reasoning + last.reasoning
        message = {"role": "assistant", "content": text, "reasoning": reasoning or None}
        choice = {"index": 0, "message": message, "finish_reason": last.finish_reason}
        usage = _usage_body(last.usage or Usage())
        facts = {"id": "chatcmpl-sim", "object": "chat.completion", "model": self.engine.name}
        return {**facts, "created": 0, "choices": [choice], "usage": usage}


async def _cancel_when_gone(receive: Receive, answer: asyncio.Task[None]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    answer.cancel()


def _exit_if_dead(error: FusionError) -> None:
    if error.code == "engine_died":
        os._exit(1)  # as a crash does: nothing is flushed, nothing is said


class _EventStream:
    """Server-sent events on their way out; the status goes with the first of them."""

    def __init__(self, send: Send, model: str) -> None:
        self._send = send
        self._model = model
        self._is_open = False

    async def send_delta(self, delta: Delta) -> None:
        part: dict[str, object] = {"reasoning": delta.reasoning}
        if delta.text:
            part = {"content": delta.text}
        elif delta.tool_calls:
            part = {"tool_calls": [_call_body(call) for call in delta.tool_calls]}
        if delta.finish_reason is not None:
            part = {"content": ""}
        choice: dict[str, object] = {"index": 0, "delta": part}
        choice |= {"logprobs": _logprobs_body(delta), "finish_reason": delta.finish_reason}
        await self._send_chunk([choice])
        if delta.usage is not None:
            await self._send_chunk([], _usage_body(delta.usage))

    async def send_failure(self, error: EngineError) -> None:
        if error.code == "malformed_stream":
            await self.send_data('{"choices": [{"delta": ')
        elif error.code != "truncated":
            await self.send_data(json.dumps(_error_body(error)))

    async def send_data(self, data: str) -> None:
        if not self._is_open:
            headers = [(b"content-type", b"text/event-stream; charset=utf-8")]
            start = {"type": "http.response.start", "status": 200, "headers": headers}
            await self._send(start)
            self._is_open = True
        body = f"data: {data}\n\n".encode()
        await self._send({"type": "http.response.body", "body": body, "more_body": True})

    async def close(self) -> None:
        await self.send_data("[DONE]")
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send_chunk(self, choices: list[Any], usage: object = None) -> None:
        chunk = {"id": "chatcmpl-sim", "object": "chat.completion.chunk", "created": 0}
        body = {**chunk, "model": self._model, "choices": choices, "usage": usage}
        await self.send_data(json.dumps(body))


def _call_body(call: ToolCallDelta) -> dict[str, object]:
    function = {"arguments": call.arguments} | ({"name": call.name} if call.name else {})
    first = {"id": call.id, "type": "function"} if call.id else {}
    return {"index": call.index, **first, "function": function}


def _logprobs_body(delta: Delta) -> dict[str, object] | None:
    if not delta.logprobs:
        return None
    places = [
        {
            "token": place.token,
            "logprob": place.logprob,
            "top_logprobs": [{"token": t.token, "logprob": t.logprob} for t in place.top],
        }
        for place in delta.logprobs
    ]
    return {"content": places}


def _usage_body(usage: Usage) -> dict[str, object]:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }


def _error_body(error: FusionError) -> dict[str, object]:
    details = {"message": str(error), "type": error.type, "param": None, "code": error.status}
    return {"error": details}
