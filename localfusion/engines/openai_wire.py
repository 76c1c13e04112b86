"""OpenAI's wire format as vLLM speaks it: bodies, stream chunks, refusals, metrics. Pure."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, cast, get_args

from localfusion.engines.base import EngineStats
from localfusion.errors import (
    ContextLengthError,
    EngineError,
    FusionError,
    OverloadedError,
    RequestError,
)
from localfusion.types import Delta, FinishReason, Message, Prompt, Usage

MAX_TEXT = 1 << 20
"""Characters of one answer; what is longer is cut, with finish_reason ``length``."""

_SAMPLING = (
    "temperature",
    "top_p",
    "max_tokens",
    "seed",
    "frequency_penalty",
    "presence_penalty",
)
_NO_KEY = (401, 403)
_NOT_SERVED = (404, 405)
_FINISH_REASONS: frozenset[str] = frozenset(get_args(FinishReason))
_PATH = re.compile(r"(?<![\w/])(?:/[\w.@+-]+){2,}/?")
_CONTEXT = re.compile(r"context[ _](length|window|size)|max_model_len", re.IGNORECASE)
_SERIES = re.compile(r"^vllm:(\w+)(?:\{[^}]*\})? (\S+)$", re.MULTILINE)


def request_body(model: str, prompt: Prompt, *, with_priority: bool) -> dict[str, object]:
    """Return the body of a streamed chat completion; fields are sent by this list and no other."""
    sampling = prompt.sampling
    body: dict[str, object] = {
        "model": model,
        "messages": message_list(prompt.messages),
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    for name in _SAMPLING:
        value = getattr(sampling, name)
        if value is not None:
            body[name] = value
    if sampling.stop:
        body["stop"] = list(sampling.stop)
    if prompt.schema is not None:
        form = {"name": "answer", "strict": True, "schema": dict(prompt.schema)}
        body["response_format"] = {"type": "json_schema", "json_schema": form}
    if with_priority:
        body["priority"] = prompt.priority
    return body


def message_list(messages: Sequence[Message]) -> list[Mapping[str, str]]:
    return [{"role": message.role, "content": message.content} for message in messages]


class ChunkReader:
    """Turns the events of one stream into deltas.

    Attributes:
        is_done: Nothing more is to be read: ``[DONE]`` came, or the text became too long.
    """

    def __init__(self, engine: str) -> None:
        self.is_done = False
        self._engine = engine
        self._room = MAX_TEXT
        self._finish_reason: FinishReason | None = None
        self._usage = Usage(calls=1)

    def read(self, data: str) -> Delta | None:
        """Return the event's text and reasoning, None if it has neither.

        Raises:
            EngineError: it tells of an error, or is not what an OpenAI server sends.
        """
        if data == "[DONE]":
            self.is_done = True
            return None
        chunk = json_object(self._engine, data)
        if "error" in chunk:
            raise EngineError(f"{self._engine} failed: {error_message(chunk)}")
        try:
            self._read_usage(chunk.get("usage"))
            choices = chunk.get("choices") or [{}]
            self._read_finish_reason(choices[0].get("finish_reason"))
            delta = choices[0].get("delta") or {}
            reasoning = delta.get("reasoning") or delta.get("reasoning_content") or ""
            return self._fit(_clean(delta.get("content") or ""), _clean(reasoning))
        except (AttributeError, LookupError, TypeError, ValueError, OverflowError) as error:
            raise malformed(self._engine, "a chunk of another shape") from error

    def last(self) -> Delta:
        """Return the delta that ends the stream; usage is all 0 where the server tells none.

        Raises:
            EngineError: the stream ended, but the answer did not.
        """
        if self._finish_reason is None:
            raise EngineError(
                f"the stream of {self._engine} ended before its answer did", code="truncated"
            )
        return Delta(finish_reason=self._finish_reason, usage=self._usage)

    def _read_usage(self, usage: dict[str, Any] | None) -> None:
        if usage is None:
            return
        prompt_details = usage.get("prompt_tokens_details") or {}
        completion_details = usage.get("completion_tokens_details") or {}
        self._usage = Usage(
            prompt_tokens=int(usage.get("prompt_tokens") or 0),
            completion_tokens=int(usage.get("completion_tokens") or 0),
            cached_tokens=int(prompt_details.get("cached_tokens") or 0),
            reasoning_tokens=int(completion_details.get("reasoning_tokens") or 0),
            calls=1,
        )

    def _read_finish_reason(self, reason: str | None) -> None:
        if reason is None:
            return
        if reason in ("abort", "error"):
            raise EngineError(f"{self._engine} gave up its answer ({reason})", code="aborted")
        # A reason of the server's own still says that the answer is complete.
        known = reason if reason in _FINISH_REASONS else "stop"
        self._finish_reason = cast(FinishReason, known)

    def _fit(self, text: str, reasoning: str) -> Delta | None:
        if len(text) + len(reasoning) > self._room:
            reasoning = reasoning[: self._room]
            text = text[: self._room - len(reasoning)]
            self._finish_reason, self.is_done = "length", True
        self._room -= len(text) + len(reasoning)
        return Delta(text=text, reasoning=reasoning) if text or reasoning else None


def refusal(engine: str, status: int, body: str, retry_after: str | None) -> FusionError:
    """Return the error for an answer whose status is not 200."""
    message = f"{engine}: {_message_of(body) or f'HTTP status {status}'}"
    if status in (429, 503):
        seconds = float(retry_after) if retry_after and retry_after.isdigit() else None
        return OverloadedError(message, retry_after=seconds)
    # With these two the client's request is not at fault, models.yaml is.
    if status in _NO_KEY:
        return EngineError(f"{message}; check api_key_file", code="engine_refused")
    if status in _NOT_SERVED:
        return EngineError(f"{message}; check base_url and remote_name", code="not_served")
    if 400 <= status < 500:
        is_too_long = status in (400, 413) and _CONTEXT.search(message)
        return ContextLengthError(message) if is_too_long else RequestError(message)
    return EngineError(message)


def _message_of(body: str) -> str:
    try:
        value = json.loads(body)
    except ValueError:
        return ""
    return error_message(value) if isinstance(value, dict) else ""


def error_message(body: Mapping[str, Any]) -> str:
    """Return the message of an error body, without paths of the engine's machine."""
    error = body.get("error", body)
    message = error.get("message", "") if isinstance(error, dict) else error
    return _PATH.sub("(path)", str(message))[:500]


def json_object(engine: str, text: str) -> dict[str, Any]:
    """Parse a JSON object.

    Raises:
        EngineError: it is none.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise malformed(engine, "what is not JSON") from error
    if not isinstance(value, dict):
        raise malformed(engine, "JSON that is no object")
    return value


def malformed(engine: str, what: str) -> EngineError:
    return EngineError(
        f"{engine} sent {what}; is it an OpenAI-compatible server?", code="malformed_stream"
    )


def parse_stats(engine: str, metrics: str) -> EngineStats:
    """Read vLLM's series from a Prometheus page.

    Raises:
        EngineError: they are not there.
    """
    values: dict[str, float] = {}
    for name, value in _SERIES.findall(metrics):
        values[name] = values.get(name, 0.0) + float(value)
    try:
        return EngineStats(
            running=int(values["num_requests_running"]),
            waiting=int(values["num_requests_waiting"]),
            kv_cache_usage=values["kv_cache_usage_perc"],
            generated_tokens=int(values.get("generation_tokens_total", 0)),
        )
    except KeyError as error:
        raise EngineError(
            f"{engine} has no series vllm:{error.args[0]}; it is no vLLM server",
            code="stats_unsupported",
        ) from error


def _clean(text: str) -> str:
    # JSON can carry half a surrogate pair, which no UTF-8 file, socket or template takes.
    return text.encode("utf-8", "replace").decode()
