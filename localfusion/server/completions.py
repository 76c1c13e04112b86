"""``POST /v1/completions``: a plain model goes on with a text, without a chat template."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated

from fastapi import APIRouter, Request, Response
from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

from localfusion import types
from localfusion.errors import FusionError
from localfusion.events import AnswerDelta, Event, RunCompleted, RunStarted
from localfusion.server import sse
from localfusion.server.admission import Runs
from localfusion.server.fields import Bias, Stops, StreamOptions, Text, TokenId, as_list
from localfusion.server.gateway import Gateway
from localfusion.server.limits import read_json
from localfusion.server.openapi import json_body
from localfusion.server.running import RunResponse
from localfusion.server.section import Section, ignored_names, read, refuse, unsupported, wrong
from localfusion.server.view import RunView, tokens_block
from localfusion.types import Answer, SamplingParams, TokenLogprob, Usage

MAX_CHOICES = 16
"""Prompts times ``n``."""
DEFAULT_TOKENS = 16
"""As OpenAI has it."""

EXAMPLE: dict[str, object] = {
    "model": "qwen2.5-coder-0.5b",
    "prompt": "def add(a, b):",
    "max_tokens": 32,
}


def _to_texts(value: object) -> object:
    if isinstance(value, list) and value and all(map(_is_tokens, value)):
        raise PydanticCustomError(
            "unsupported_parameter", "may not be token numbers; send the text that they stand for"
        )
    return as_list(value)


def _is_tokens(value: object) -> bool:
    if isinstance(value, list):
        return bool(value) and all(type(token) is int for token in value)
    return type(value) is int


class CompletionsBody(Section):
    """The body of ``POST /v1/completions``; null means absent."""

    model: str
    """A model by its own name; presets answer chats."""
    prompt: Annotated[
        list[str],
        BeforeValidator(_to_texts, json_schema_input_type=str | list[str]),
        Field(min_length=1, max_length=MAX_CHOICES),
    ]
    """A text, or several, each of which is gone on with."""
    max_tokens: int | None = Field(default=None, ge=1, lt=2**31)
    """16 where it is left out."""
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    n: int | None = Field(default=None, ge=1, le=8)
    stop: Stops = None
    """One text, or up to four."""
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    logit_bias: dict[TokenId, Bias] | None = Field(default=None, max_length=300)
    logprobs: int | None = Field(default=None, ge=0, le=20)
    """How many of the likeliest tokens are told for each place, besides the one that was drawn."""
    user: Text | None = None
    """Accepted; nothing here reads it."""


_REFUSED: Mapping[str, tuple[tuple[object, ...], str]] = {
    "suffix": (("",), "leave it out, for models here only go on"),
    "best_of": ((1,), "send n"),
    "echo": ((False,), "leave it out and put the prompt in front yourself"),
    "prompt_logprobs": ((), "leave it out"),
    "prompt_embeds": ((), "send a text"),
    "structured_outputs": ((), "ask for a form in a chat completion"),
    "priority": ((0,), "leave it out, for it belongs to the engine"),
    "cache_salt": ((), "leave it out, for it belongs to the engine"),
}


@dataclass(frozen=True, slots=True)
class CompletionsRequest:
    """Requests that can be run, one for each choice."""

    requests: Sequence[types.Request]
    is_stream: bool = False
    include_usage: bool = False
    ignored: tuple[str, ...] = ()


def completion_routes(gateway: Gateway, runs: Runs) -> APIRouter:
    """Build the route of text completions."""
    router = APIRouter()

    @router.post("/v1/completions", openapi_extra=json_body(CompletionsBody, EXAMPLE))
    async def create_completion(request: Request) -> Response:
        asked = read_completions(await read_json(request, gateway.settings.limits.body_bytes))
        name, _ = gateway.fusion.resolve(asked.requests[0].model)
        if name in gateway.fusion.presets:
            raise unsupported(
                "model", "may not be a preset here; name a model, or send a chat completion"
            )
        reply = CompletionsReply(asked, int(time.time()))
        is_stream = asked.is_stream
        return RunResponse(gateway, runs, *asked.requests, reply=reply, is_stream=is_stream)

    return router


def read_completions(document: Mapping[str, object]) -> CompletionsRequest:
    """Check a body and turn it into requests.

    Raises:
        RequestError: names the first field that is wrong, what it may be, and what to do.
    """
    refuse(document, _REFUSED)
    ignored = ignored_names(document, {*CompletionsBody.model_fields, *_REFUSED})
    body = read(CompletionsBody, document)
    if body.stream_options is not None and not body.stream:
        raise unsupported("stream_options", "belongs to streams; leave it out or set stream: true")
    samples = body.n or 1
    if len(body.prompt) * samples > MAX_CHOICES:
        raise wrong("prompt", f"times n is more than {MAX_CHOICES}; send fewer at once")
    bias = body.logit_bias
    sampling = SamplingParams(
        temperature=body.temperature,
        top_p=body.top_p,
        max_tokens=body.max_tokens or DEFAULT_TOKENS,
        stop=tuple(body.stop or ()),
        frequency_penalty=body.frequency_penalty,
        presence_penalty=body.presence_penalty,
        logit_bias={int(token): value for token, value in bias.items()} if bias else None,
    )
    requests = [
        types.Request(
            body.model,
            (),
            replace(sampling, seed=None if body.seed is None else body.seed + sample),
            logprobs=body.logprobs,
            watches="answer" if body.stream else "nothing",
            raw=prompt,
            origin=types.Origin(ignored=ignored),
        )
        for prompt in body.prompt
        for sample in range(samples)
    ]
    usage = bool(body.stream_options and body.stream_options.include_usage)
    return CompletionsRequest(requests, bool(body.stream), usage, ignored)


@dataclass(slots=True)
class CompletionsReply:
    """Turns the events of one or more runs into a completion, or its stream.

    Attributes:
        created: Seconds since 1970, the same in every chunk.
    """

    asked: CompletionsRequest
    created: int
    view: RunView = field(default_factory=RunView)
    _places: dict[str, int] = field(default_factory=dict)
    _answers: dict[int, Answer] = field(default_factory=dict)
    _lengths: dict[int, int] = field(default_factory=dict)

    def feed(self, event: Event) -> bytes:
        """Return what an event adds to the stream; nothing for most."""
        if isinstance(event, RunStarted):
            self._places[event.run_id] = len(self._places)
        place = self._places[event.run_id]
        if place == 0:
            self.view.see(event)
        match event:
            case AnswerDelta() if self.asked.is_stream:
                return self._piece(place, event)
            case RunCompleted():
                return self._end(place, event.answer)
        return b""

    def keep_alive(self) -> bytes:
        return sse.comment(self.view.progress)

    def body(self, answer: Answer) -> dict[str, object]:
        choices = [self._whole(place, self._answers[place]) for place in sorted(self._answers)]
        return self._object(choices) | {"usage": tokens_block(self._usage)}

    def headers(self) -> dict[str, str]:
        return self.view.headers(self.asked.ignored)

    def refusal(self, error: FusionError) -> Response:
        return self.view.refusal(error)

    def fail(self, error: FusionError) -> bytes:
        """Return the chunk that ends a stream whose status has been sent; no [DONE] follows it."""
        failed = _choice(0, "", None, "error")
        return sse.data(self._object([failed]) | {"error": self.view.error(error)})

    def _piece(self, place: int, event: AnswerDelta) -> bytes:
        start = self._lengths.get(place, 0)
        self._lengths[place] = start + len(event.text)
        told = _logprobs(event.logprobs, start) if self._wants_logprobs else None
        if not event.text and not told:
            return b""
        return self._chunk(_choice(place, event.text, told, None))

    def _end(self, place: int, answer: Answer) -> bytes:
        self._answers[place] = answer
        frames = self._chunk(_choice(place, "", None, answer.finish_reason))
        if len(self._answers) < len(self.asked.requests):
            return frames
        if self.asked.include_usage:
            frames += sse.data(self._object([]) | {"usage": tokens_block(self._usage)})
        return frames + sse.DONE

    def _whole(self, place: int, answer: Answer) -> dict[str, object]:
        told = _logprobs(answer.logprobs, 0) if self._wants_logprobs else None
        return _choice(place, answer.text, told, answer.finish_reason)

    def _chunk(self, choice: dict[str, object]) -> bytes:
        empty: dict[str, object] = {"usage": None} if self.asked.include_usage else {}
        return sse.data(self._object([choice]) | empty)

    def _object(self, choices: Sequence[dict[str, object]]) -> dict[str, object]:
        settled = self.view.answer or self.view.settled
        return {
            "id": f"cmpl-{self.view.run_id or 'none'}",
            "object": "text_completion",
            "created": self.created,
            "model": settled.model if settled else self.asked.requests[0].model,
            "choices": choices,
        }

    @property
    def _wants_logprobs(self) -> bool:
        return self.asked.requests[0].logprobs is not None

    @property
    def _usage(self) -> Usage:
        return sum((answer.usage for answer in self._answers.values()), Usage())


def _choice(
    place: int, text: str, logprobs: dict[str, object] | None, finish_reason: str | None
) -> dict[str, object]:
    return {"index": place, "text": text, "logprobs": logprobs, "finish_reason": finish_reason}


def _logprobs(tokens: Sequence[TokenLogprob], start: int) -> dict[str, object] | None:
    if not tokens:
        return None
    offsets = []
    for token in tokens:
        offsets.append(start)
        start += len(token.token)
    return {
        "tokens": [token.token for token in tokens],
        "token_logprobs": [token.logprob for token in tokens],
        "top_logprobs": [{t.token: t.logprob for t in token.top} for token in tokens],
        "text_offset": offsets,
    }
