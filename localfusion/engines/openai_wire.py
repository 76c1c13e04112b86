"""OpenAI's wire format as vLLM speaks it: bodies and refusals. Pure."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from localfusion.errors import (
    ContextLengthError,
    EngineError,
    FusionError,
    OverloadedError,
    RequestError,
)
from localfusion.functions import ToolCall, Tools
from localfusion.types import Effort, Message, Prompt

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
_PATH = re.compile(r"(?<![\w/])(?:/[\w.@+-]+){2,}/?")
_CONTEXT = re.compile(r"context[ _](length|window|size)|max_model_len", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Dialect:
    """What a server takes besides OpenAI's own fields.

    Attributes:
        is_vllm: It passes arguments on to the chat template, and knows strict functions.
        takes_priority: To vLLM a priority may be an error without ``--scheduling-policy priority``.
        takes_no_effort: Effort ``none`` may be asked of it, and is left out elsewhere: a model with
            Mistral's own tokenizer, and many a server of a model that never thinks, refuse it.
    """

    is_vllm: bool = False
    takes_priority: bool = False
    takes_no_effort: bool = True

    def plainer(self) -> list["Dialect"]:
        """Return itself, then what it becomes by leaving out one hint, another, and both."""
        others = (
            self,
            replace(self, takes_priority=False),
            replace(self, takes_no_effort=False),
            replace(self, takes_priority=False, takes_no_effort=False),
        )
        return list(dict.fromkeys(others))


def request_body(model: str, prompt: Prompt, dialect: Dialect) -> dict[str, object]:
    """Return the body of a streamed chat completion; fields are sent by this list and no other."""
    sampling = prompt.sampling
    body: dict[str, object] = {
        "model": model,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if prompt.raw is None:
        body["messages"] = message_list(prompt.messages)
    else:
        body["prompt"] = prompt.raw
    for name in _SAMPLING:
        value = getattr(sampling, name)
        if value is not None:
            body[name] = value
    if sampling.stop:
        body["stop"] = list(sampling.stop)
    if keeps_stop_words(prompt, dialect):
        body["include_stop_str_in_output"] = True
    if prompt.schema is not None:
        form = {"name": "answer", "strict": True, "schema": dict(prompt.schema)}
        body["response_format"] = {"type": "json_schema", "json_schema": form}
    if sampling.logit_bias:
        body["logit_bias"] = {str(token): bias for token, bias in sampling.logit_bias.items()}
    body |= _wanted_logprobs(prompt)
    if prompt.tools is not None:
        body |= _tools(prompt.tools, dialect)
    if prompt.effort is not None and (prompt.effort != "none" or dialect.takes_no_effort):
        body |= _effort(prompt.effort, dialect)
    return body | _hints(prompt, dialect)


def keeps_stop_words(prompt: Prompt, dialect: Dialect) -> bool:
    """Whether the stop word that ends the text is left in it, and ours to take off.

    Not where each token is told of, nor before what reads calls out of the text.
    """
    is_plain = prompt.logprobs is None and prompt.tools is None
    return dialect.is_vllm and is_plain and bool(prompt.sampling.stop)


def _wanted_logprobs(prompt: Prompt) -> dict[str, object]:
    if prompt.logprobs is None:
        return {}
    if prompt.raw is not None:
        return {"logprobs": prompt.logprobs}
    return {"logprobs": True, "top_logprobs": prompt.logprobs}


def _hints(prompt: Prompt, dialect: Dialect) -> dict[str, object]:
    """Return what changes no word of the answer, only when it comes."""
    hints: dict[str, object] = {}
    if dialect.takes_priority:
        hints["priority"] = prompt.priority
    if dialect.is_vllm and prompt.interval > 1:
        hints["stream_interval"] = prompt.interval
    return hints


def _effort(effort: Effort, dialect: Dialect) -> dict[str, object]:
    if not dialect.is_vllm:
        return {"reasoning_effort": effort}
    thinks = effort != "none"
    # By either name, as the template knows it; those that know none take no notice. An effort of
    # "none" stays out of the field: templates that print it know only of low to high.
    switch = {"chat_template_kwargs": {"enable_thinking": thinks, "thinking": thinks}}
    return switch | ({"reasoning_effort": effort} if thinks else {})


def _tools(tools: Tools, dialect: Dialect) -> dict[str, object]:
    if dialect.is_vllm and tools.choice == "required":
        # Else vLLM 0.32 holds a forced call to its form alone: small models leave arguments out.
        functions = tuple(replace(f, strict=f.strict is not False) for f in tools.functions)
        tools = replace(tools, functions=functions)
    body: dict[str, object] = {"tools": tool_list(tools), "tool_choice": tools.choice}
    if tools.only is not None:
        body["tool_choice"] = {"type": "function", "function": {"name": tools.only}}
    if tools.parallel is not None:
        body["parallel_tool_calls"] = tools.parallel
    return body


def tool_list(tools: Tools) -> list[Mapping[str, object]]:
    """Return the functions as OpenAI's ``tools``."""
    listed: list[Mapping[str, object]] = []
    for function in tools.functions:
        fields: dict[str, object] = {"name": function.name}
        if function.description:
            fields["description"] = function.description
        if function.parameters is not None:
            fields["parameters"] = dict(function.parameters)
        if function.strict is not None:
            fields["strict"] = function.strict
        listed.append({"type": "function", "function": fields})
    return listed


def call_list(calls: Sequence[ToolCall]) -> list[Mapping[str, object]]:
    """Return calls of functions as OpenAI's ``tool_calls``."""
    return [
        {
            "id": call.id,
            "type": "function",
            "function": {"name": call.name, "arguments": call.arguments},
        }
        for call in calls
    ]


def message_list(messages: Sequence[Message]) -> list[Mapping[str, object]]:
    return [_message(message) for message in messages]


def _message(message: Message) -> Mapping[str, object]:
    fields: dict[str, object] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        fields["tool_calls"] = call_list(message.tool_calls)
    if message.tool_call_id is not None:
        fields["tool_call_id"] = message.tool_call_id
    return fields


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
