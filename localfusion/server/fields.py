"""The fields of a chat request: which are honored, which refused, which ignored. Pure.

A documented field that would change the answer and is not built is refused, never dropped in
silence; a field that nobody documents is ignored and named in a header. Values are never echoed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from localfusion.server.forms import EffortName, Forms, FusionOptions, take_forms, to_effort
from localfusion.server.section import Section, ignored_names, read, refuse, unsupported, wrong
from localfusion.server.tools import (
    Choice,
    NamedTool,
    ResponseFormat,
    ToolBody,
    to_schema,
    to_tools,
)
from localfusion.server.turns import ChatMessage, to_messages
from localfusion.types import Origin, Request, SamplingParams, Watches

MAX_CHOICES = 8


class StreamOptions(Section):
    include_usage: bool | None = None
    """Send a last chunk with the tokens of the whole run."""
    include_obfuscation: bool | None = None
    """Accepted; none is added."""


Stop = Annotated[str, Field(min_length=1, max_length=256)]
Text = Annotated[str, Field(max_length=512)]
Bias = Annotated[float, Field(ge=-100, le=100)]
TokenId = Annotated[str, Field(pattern=r"^[0-9]{1,9}$")]


def as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


StopList = Annotated[list[Stop], Field(max_length=4)]
Stops = Annotated[
    StopList | None, BeforeValidator(as_list, json_schema_input_type=Stop | StopList | None)
]


class ChatBody(Section):
    """The body of ``POST /v1/chat/completions``; null means absent."""

    model: str
    """A preset, a model, ``openrouter/fusion`` or ``openrouter/fusion-flash``."""
    messages: list[ChatMessage] = Field(min_length=1)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    max_tokens: int | None = Field(default=None, ge=1, lt=2**31)
    """The older name of max_completion_tokens."""
    max_completion_tokens: int | None = Field(default=None, ge=1, lt=2**31)
    """Longest answer, reasoning included; the panel's length is the preset's."""
    stop: Stops = None
    """One text, or up to four."""
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    logit_bias: dict[TokenId, Bias] | None = Field(default=None, max_length=300)
    """By token number of the model that writes the answer."""
    logprobs: bool | None = None
    """Of a single model's answer."""
    top_logprobs: int | None = Field(default=None, ge=0, le=20)
    """With ``logprobs``: how many of the likeliest tokens are told for each place."""
    n: int | None = Field(default=None, ge=1, le=MAX_CHOICES)
    """Answers of a single model; a fusion gives 1."""
    response_format: ResponseFormat | None = None
    """What form the answer has; drafts are free text."""
    tools: list[ToolBody] | None = Field(default=None, max_length=128)
    """Functions that the answer may call; drafts may not."""
    tool_choice: Choice | NamedTool | None = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: EffortName | None = None
    """Of the model that writes the answer; ``max`` and ``xhigh`` are ``high`` here."""
    metadata: dict[Annotated[str, Field(max_length=64)], Text] | None = Field(
        default=None, max_length=16
    )
    """Accepted; nothing here reads it."""
    user: Text | None = None
    """Accepted; nothing here reads it."""
    safety_identifier: Text | None = None
    """Accepted; nothing here reads it."""
    modalities: list[Literal["text"]] | None = None
    """Only text."""
    fusion: FusionOptions | None = None
    """How the answer is made."""
    plugins: list[object] | None = None
    """The same as ``[{"id": "fusion", …}]``."""


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A chat request that can be run.

    Attributes:
        requested: The name that the client asked for.
        forms: What it said of fusion.
        choices: Answers that it wants.
        ignored: Names of fields that nobody documents, for ``x-localfusion-ignored``.
    """

    request: Request
    requested: str
    forms: Forms = field(default_factory=Forms)
    is_stream: bool = False
    include_usage: bool = False
    choices: int = 1
    ignored: tuple[str, ...] = ()

    @property
    def options(self) -> FusionOptions:
        return self.forms.options

    def each(self) -> Sequence[Request]:
        """Return a request for each answer; their seeds follow each other."""
        if self.choices == 1:
            return (self.request,)
        sampling = self.request.sampling
        return tuple(
            replace(
                self.request,
                sampling=replace(
                    sampling, seed=None if sampling.seed is None else sampling.seed + place
                ),
            )
            for place in range(self.choices)
        )


_ENGINE_ONLY = "it belongs to the engine and is set in models.yaml"
_TEXT_ONLY = "leave it out, for answers are text"

# Values that ask for nothing besides what happens anyway, and what to do otherwise.
REFUSED: Mapping[str, tuple[tuple[object, ...], str]] = {
    "functions": (([],), "send tools"),
    "function_call": (("none", "auto"), "send tool_choice"),
    "audio": ((), _TEXT_ONLY),
    "modalities": ((["text"],), _TEXT_ONLY),
    "web_search_options": ((), "leave it out, for there is no network"),
    "moderation": ((), "leave it out"),
    "service_tier": (("auto", "default"), "leave it out"),
    "verbosity": (("medium",), "leave it out and ask for the length in a message"),
    "store": ((False,), "leave it out, for nothing is stored"),
} | dict.fromkeys(
    (
        "add_generation_prompt",
        "cache_salt",
        "chat_template",
        "chat_template_kwargs",
        "continue_final_message",
        "echo",
        "guided_choice",
        "guided_decoding_backend",
        "guided_grammar",
        "guided_json",
        "guided_regex",
        "kv_transfer_params",
        "media_io_kwargs",
        "mm_processor_kwargs",
        "priority",
        "prompt_embeds",
        "prompt_logprobs",
        "structured_outputs",
        "vllm_xargs",
    ),
    ((), _ENGINE_ONLY),
)

# Hints that may speed a request up and change nothing else.
HINTS = frozenset(
    {"prediction", "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention"}
)


def read_chat(document: Mapping[str, object], max_messages: int) -> ChatRequest:
    """Check a body and turn it into a request.

    Raises:
        RequestError: names the first field that is wrong, what it may be, and what to do.
    """
    refuse(document, REFUSED)
    known = {*ChatBody.model_fields, *REFUSED, *HINTS}
    ignored = ignored_names(document, known)
    forms, rest = take_forms(document)
    with forms.in_its_places():
        return _chat(rest, forms, ignored, max_messages)


def _chat(
    rest: Mapping[str, object], forms: Forms, ignored: tuple[str, ...], max_messages: int
) -> ChatRequest:
    body = read(ChatBody, rest)
    _check_together(body, forms.options, max_messages)
    request = Request(
        model=body.model,
        messages=to_messages(body.messages),
        sampling=_sampling(body),
        schema=to_schema(body.response_format),
        tools=to_tools(body.tools or (), body.tool_choice, body.parallel_tool_calls),
        effort=to_effort(body.reasoning_effort),
        logprobs=(body.top_logprobs or 0) if body.logprobs else None,
        changes=forms.options.changes,
        watches=_watches(body, forms.options),
        origin=Origin(ignored=ignored),
    )
    return ChatRequest(
        request,
        body.model,
        forms=forms,
        is_stream=bool(body.stream),
        include_usage=bool(body.stream_options and body.stream_options.include_usage),
        choices=body.n or 1,
        ignored=ignored,
    )


def _watches(body: ChatBody, options: FusionOptions) -> Watches:
    if not body.stream:
        return "nothing"
    return "panel" if options.stream_panel else "answer"


def _sampling(body: ChatBody) -> SamplingParams:
    bias = body.logit_bias
    return SamplingParams(
        temperature=body.temperature,
        top_p=body.top_p,
        max_tokens=body.max_completion_tokens or body.max_tokens,
        stop=tuple(body.stop or ()),
        seed=body.seed,
        frequency_penalty=body.frequency_penalty,
        presence_penalty=body.presence_penalty,
        logit_bias={int(token): value for token, value in bias.items()} if bias else None,
    )


def _check_together(body: ChatBody, options: FusionOptions, max_messages: int) -> None:
    if len(body.messages) > max_messages:
        raise wrong("messages", f"has more than {max_messages} entries; shorten the conversation")
    if body.stream_options is not None and not body.stream:
        raise unsupported("stream_options", "belongs to streams; leave it out or set stream: true")
    if options.stream_panel and not body.stream:
        raise unsupported("fusion.stream_panel", "belongs to streams; set stream: true")
    if body.top_logprobs is not None and not body.logprobs:
        raise unsupported("top_logprobs", "belongs to logprobs; set logprobs: true")
    lengths = {body.max_tokens, body.max_completion_tokens} - {None}
    if len(lengths) > 1:
        raise wrong("max_tokens", "and max_completion_tokens differ; send one of them")
