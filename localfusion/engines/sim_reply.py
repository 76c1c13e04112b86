"""What a simulated engine says: its script, cut into tokens as the prompt demands."""

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from localfusion.engines.openai_stream import NEVER
from localfusion.engines.sim_schema import minimal_instance
from localfusion.errors import RequestError
from localfusion.functions import Function, ToolCallDelta, Tools
from localfusion.types import Delta, FinishReason, Message, Prompt, TokenLogprob

Script = str | Sequence[str] | Callable[[Prompt], str]
Verdict = Mapping[str, float] | Callable[[Prompt], Mapping[str, float]]
"""Probabilities of a token; a function may return none, and then the script is said."""

DEFAULT_TEXT = "A simulated answer."

# A leading space belongs to its word, as in most tokenizers; words are cut after eight characters.
_TOKEN = re.compile(r"\s?\w{1,8}|\s?[^\w\s]|\s")


def tokenize(text: str) -> list[str]:
    """Cut a text into the simulation's tokens; joined, they are the text."""
    return _TOKEN.findall(text)


def render(messages: Sequence[Message], tools: Tools | None = None) -> list[str]:
    """Return the prompt's tokens with the simulation's chat template applied."""
    tokens: list[str] = []
    for function in tools.functions if tools else ():
        schema = json.dumps(function.parameters) if function.parameters else ""
        tokens += ["<tool>", *tokenize(f"{function.name} {function.description} {schema}"), "<end>"]
    for message in messages:
        tokens += [f"<{message.role}>", *tokenize(message.content)]
        for call in message.tool_calls:
            tokens += ["<call>", *tokenize(f"{call.name} {call.arguments}")]
        tokens.append("<end>")
    return [*tokens, "<assistant>"]


@dataclass(frozen=True, slots=True)
class SimReply:
    """What will be said: reasoning first, then text; at least one token, if only the end's.

    Attributes:
        verdict: Probabilities of the first token of the text; None: it is certain, as all others.
        logprobs: How many of the likeliest tokens are told for each place; None: nothing is told.
        call: The function that is called with the tokens as its arguments, None: they are text.
    """

    tokens: Sequence[str]
    reasoning_tokens: int
    finish_reason: FinishReason
    verdict: Mapping[str, float] | None = None
    logprobs: int | None = None
    call: str | None = None

    @property
    def wanted(self) -> int:
        return max(1, len(self.tokens))

    def pieces(self, start: int, end: int) -> Iterator[Delta]:
        """Join the tokens from one place to another; thoughts and words stay apart."""
        for first, last in ((start, self.reasoning_tokens), (self.reasoning_tokens, end)):
            first, last = max(first, start), min(last, end)
            if tokens := "".join(self.tokens[first:last]):
                yield self._piece(first, last, tokens)

    def _piece(self, first: int, last: int, tokens: str) -> Delta:
        if first >= self.reasoning_tokens and self.call is not None:
            if first > self.reasoning_tokens:
                return Delta(tool_calls=(ToolCallDelta(0, arguments=tokens),))
            return Delta(tool_calls=(ToolCallDelta(0, f"call-{self.call}", self.call, tokens),))
        logprobs = (
            tuple(self._logprob(place) for place in range(first, last))
            if self.logprobs is not None
            else ()
        )
        if first < self.reasoning_tokens:
            return Delta(reasoning=tokens, logprobs=logprobs)
        return Delta(text=tokens, logprobs=logprobs)

    def _logprob(self, index: int) -> TokenLogprob:
        said = self.tokens[index]
        verdict = self.verdict if index == self.reasoning_tokens else None
        likeliest = sorted((verdict or {said: 1.0}).items(), key=lambda entry: -entry[1])
        top = [TokenLogprob(token, _log(probability)) for token, probability in likeliest]
        logprob = next((place.logprob for place in top if place.token == said), NEVER)
        return TokenLogprob(said, logprob, tuple(top[: self.logprobs]))


def _log(probability: float) -> float:
    return math.log(probability) if probability > 0 else NEVER


@dataclass(frozen=True, slots=True)
class SimSpeaker:
    """Makes a reply of a prompt; see SimEngine for what is said when."""

    text: Script
    reasoning: str = ""
    verdict: Verdict | None = None
    calls_tools: bool = False

    def reply(self, prompt: Prompt, *, call: int, room: int) -> SimReply:
        """Return what is said in the ``call``-th call, in at most ``room`` tokens.

        Raises:
            RequestError: nothing obeys the prompt's schema.
        """
        limit = min(prompt.sampling.max_tokens or room, room)  # vLLM 0.32 cuts it too
        thoughts = [] if prompt.effort == "none" else tokenize(self.reasoning)
        verdict = self._verdict(prompt) if prompt.logprobs is not None else None
        function = self._function(prompt)
        if function is not None:
            words = tokenize(_obey(function.parameters or {"type": "object"}))
        elif verdict:
            words = [max(verdict, key=lambda token: verdict[token])]
        else:
            words = tokenize(self._words(prompt, call))
        tokens = [*thoughts, *words]
        end: FinishReason = "stop" if function is None else "tool_calls"
        return SimReply(
            tokens[:limit],
            min(len(thoughts), limit),
            "length" if len(tokens) > limit else end,
            verdict or None,
            prompt.logprobs,
            None if function is None else function.name,
        )

    def _function(self, prompt: Prompt) -> Function | None:
        """Return the function that is called: the one that must be, or the first that may be."""
        tools = prompt.tools
        if tools is None:
            return None
        if tools.choice == "required":
            return next(f for f in tools.functions if tools.only in (None, f.name))
        # A judge reads results as text, in front of the drafts.
        has_result = prompt.messages[-1].role == "tool" or any(
            f"Result of {function.name}:" in message.content
            for function in tools.functions
            for message in prompt.messages
        )
        return tools.functions[0] if self.calls_tools and not has_result else None

    def _verdict(self, prompt: Prompt) -> Mapping[str, float] | None:
        return self.verdict(prompt) if callable(self.verdict) else self.verdict

    def _words(self, prompt: Prompt, call: int) -> str:
        text = self._script(prompt, call)
        if prompt.schema is not None and not _is_json(text):
            text = _obey(prompt.schema)
        ends = [text.index(stop) for stop in prompt.sampling.stop if stop in text]
        return text[: min(ends, default=len(text))]

    def _script(self, prompt: Prompt, call: int) -> str:
        if isinstance(self.text, str):
            return self.text
        if callable(self.text):
            return self.text(prompt)
        return self.text[min(call, len(self.text)) - 1]


def _obey(schema: Mapping[str, object]) -> str:
    try:
        return json.dumps(minimal_instance(schema))
    except ValueError as error:
        raise RequestError(f"response_format: {error}") from error


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True
