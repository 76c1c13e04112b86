"""OpenAI's stream as vLLM writes it: chunks become deltas. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast, get_args

from localfusion.engines.openai_wire import error_message, json_object, malformed
from localfusion.engines.stops import StopWords
from localfusion.errors import EngineError
from localfusion.functions import ToolCallDelta
from localfusion.types import Delta, FinishReason, TokenLogprob, Usage

MAX_TEXT = 1 << 20
"""Characters of one answer; what is longer is cut, with finish_reason ``length``."""

MAX_TOOL_CALLS = 128
"""Of one answer."""

NEVER = -9999.0
"""Logarithm of a probability that is zero, as vLLM writes it: JSON knows no infinity."""
ROUNDING = 1e-3
"""By which the logarithm of a probability may miss its bound, 0."""

_FINISH_REASONS: frozenset[str] = frozenset(get_args(FinishReason))


class ChunkReader:
    """Turns the events of one stream into deltas.

    Args:
        engine: Its name, for messages.
        with_logprobs: They were asked for; those of others are not looked at.
        stop: Words of which one may end the text, to be taken off.

    Attributes:
        is_done: Nothing more is to be read: ``[DONE]`` came, or the text became too long.
    """

    def __init__(
        self, engine: str, *, with_logprobs: bool = False, stop: Sequence[str] = ()
    ) -> None:
        self.is_done = False
        self._with_logprobs = with_logprobs
        self._engine = engine
        self._room = MAX_TEXT
        self._text, self._reasoning = StopWords(stop), StopWords(stop)
        self._finish_reason: FinishReason | None = None
        self._usage = Usage(calls=1)

    def read(self, data: str) -> Delta | None:
        """Return the event's text, reasoning, logprobs and tool calls, None if it has none.

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
            logprobs = _logprobs(choices[0]) if self._with_logprobs else ()
            calls = tuple(_tool_call(call) for call in delta.get("tool_calls") or ())
            return self._fit(
                Delta(
                    self._text.take(_clean(delta.get("content") or choices[0].get("text") or "")),
                    self._reasoning.take(_clean(reasoning)),
                    logprobs=logprobs,
                    tool_calls=calls,
                )
            )
        except (AttributeError, LookupError, TypeError, ValueError, OverflowError) as error:
            raise malformed(self._engine, "a chunk of another shape") from error

    def last(self) -> Delta:
        """Return the delta that ends the stream, with what was held back.

        Its usage is all 0 where the server tells none.

        Raises:
            EngineError: the stream ended, but the answer did not.
        """
        if self._finish_reason is None:
            raise EngineError(
                f"the stream of {self._engine} ended before its answer did", code="truncated"
            )
        return Delta(
            self._text.end(),
            self._reasoning.end(),
            finish_reason=self._finish_reason,
            usage=self._usage,
        )

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

    def _fit(self, delta: Delta) -> Delta | None:
        arguments = sum(len(call.arguments) for call in delta.tool_calls)
        length = len(delta.text) + len(delta.reasoning) + arguments
        if length > self._room:
            reasoning = delta.reasoning[: self._room]
            text = delta.text[: self._room - len(reasoning)]
            delta = replace(delta, text=text, reasoning=reasoning, tool_calls=())
            self._finish_reason, self.is_done = "length", True
        self._room -= length
        has_content = delta.text or delta.reasoning or delta.logprobs or delta.tool_calls
        return delta if has_content else None


def _tool_call(call: Mapping[str, Any]) -> ToolCallDelta:
    function = call.get("function") or {}
    index = int(call.get("index") or 0)
    if not 0 <= index < MAX_TOOL_CALLS:
        raise ValueError(index)
    return ToolCallDelta(
        index=index,
        id=_clean(call.get("id") or ""),
        name=_clean(function.get("name") or ""),
        arguments=_clean(function.get("arguments") or ""),
    )


def _logprobs(choice: Mapping[str, Any]) -> tuple[TokenLogprob, ...]:
    told = choice.get("logprobs") or {}
    if "tokens" in told:  # as completions have them: a list for each thing that is told
        top = told.get("top_logprobs") or [None] * len(told["tokens"])
        return tuple(
            TokenLogprob(
                _clean(token),
                _logprob(value),
                tuple(TokenLogprob(_clean(t), _logprob(v)) for t, v in (others or {}).items()),
            )
            for token, value, others in zip(
                told["tokens"], told["token_logprobs"], top, strict=True
            )
        )
    places = told.get("content") or ()
    return tuple(
        TokenLogprob(
            _clean(place["token"]),
            _logprob(place["logprob"]),
            tuple(
                TokenLogprob(_clean(other["token"]), _logprob(other["logprob"]))
                for other in place.get("top_logprobs") or ()
            ),
        )
        for place in places
    )


def _logprob(value: float) -> float:
    if not value <= ROUNDING:  # NaN too
        raise ValueError(value)
    return max(NEVER, min(0.0, float(value)))


def _clean(text: str) -> str:
    # JSON can carry half a surrogate pair, which no UTF-8 file, socket or template takes.
    return text.encode("utf-8", "replace").decode()
