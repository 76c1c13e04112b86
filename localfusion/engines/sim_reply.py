"""What a simulated engine says: its script, cut into tokens as the prompt demands."""

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from localfusion.engines.openai_wire import NEVER
from localfusion.engines.sim_schema import minimal_instance
from localfusion.errors import RequestError
from localfusion.types import Delta, FinishReason, Message, Prompt

Script = str | Sequence[str] | Callable[[Prompt], str]
Verdict = Mapping[str, float] | Callable[[Prompt], Mapping[str, float]]
"""Probabilities of a token; a function may return none, and then the script is said."""

DEFAULT_TEXT = "A simulated answer."

# A leading space belongs to its word, as in most tokenizers; words are cut after eight characters.
_TOKEN = re.compile(r"\s?\w{1,8}|\s?[^\w\s]|\s")


def tokenize(text: str) -> list[str]:
    """Cut a text into the simulation's tokens; joined, they are the text."""
    return _TOKEN.findall(text)


def render(messages: Sequence[Message]) -> list[str]:
    """Return the prompt's tokens with the simulation's chat template applied."""
    tokens: list[str] = []
    for message in messages:
        tokens += [f"<{message.role}>", *tokenize(message.content), "<end>"]
    return [*tokens, "<assistant>"]


@dataclass(frozen=True, slots=True)
class SimReply:
    """What will be said: reasoning first, then text; at least one token, if only the end's.

    Attributes:
        verdict: Probabilities of the first token of the text; None: it is certain, as all others.
        top_logprobs: How many of the likeliest tokens are told for each place.
    """

    tokens: Sequence[str]
    reasoning_tokens: int
    finish_reason: FinishReason
    verdict: Mapping[str, float] | None = None
    top_logprobs: int = 0

    @property
    def wanted(self) -> int:
        return max(1, len(self.tokens))

    def delta(self, index: int) -> Delta:
        token = self.tokens[index]
        logprobs = (self._logprobs(index),) if self.top_logprobs else ()
        if index < self.reasoning_tokens:
            return Delta(reasoning=token, top_logprobs=logprobs)
        return Delta(text=token, top_logprobs=logprobs)

    def _logprobs(self, index: int) -> Mapping[str, float]:
        if self.verdict is None or index != self.reasoning_tokens:
            return {self.tokens[index]: 0.0}
        likeliest = sorted(self.verdict.items(), key=lambda entry: -entry[1])
        return {
            token: math.log(probability) if probability > 0 else NEVER
            for token, probability in likeliest[: self.top_logprobs]
        }


@dataclass(frozen=True, slots=True)
class SimSpeaker:
    """Makes a reply of a prompt; see SimEngine for what is said when."""

    text: Script
    reasoning: str = ""
    verdict: Verdict | None = None

    def reply(self, prompt: Prompt, *, call: int, room: int) -> SimReply:
        """Return what is said in the ``call``-th call, in at most ``room`` tokens.

        Raises:
            RequestError: nothing obeys the prompt's schema.
        """
        limit = min(prompt.sampling.max_tokens or room, room)  # vLLM 0.32 cuts it too
        thoughts = [] if prompt.effort == "none" else tokenize(self.reasoning)
        verdict = self._verdict(prompt) if prompt.top_logprobs else None
        if verdict:
            words = [max(verdict, key=lambda token: verdict[token])]
        else:
            words = tokenize(self._words(prompt, call))
        tokens = [*thoughts, *words]
        return SimReply(
            tokens[:limit],
            min(len(thoughts), limit),
            "length" if len(tokens) > limit else "stop",
            verdict or None,
            prompt.top_logprobs,
        )

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
