"""One question, asked in each of the ways that are compared; what the client sees of it."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from benches.peers_client import Stream, chat, endless, stream, whole
from benches.peers_meter import Counts
from benches.peers_relay import Call, Relay
from benches.peers_servers import JUDGE_TEMPERATURE, PANEL_TEMPERATURE, SAMPLES, PeerError

JUDGE_STAGES = ("verdict", "analysis", "synthesis")
SYNTHESIZE = """You have been given several answers of AI models to the question below. Synthesize \
them into one answer of high quality. They may be wrong or biased: judge them critically, do not \
just repeat them.

Question:
{question}

{answers}

Write the one answer to the question now."""
"""The usual prompt of its kind, after the aggregation prompt of togethercomputer/MoA."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer as its client got it.

    Attributes:
        first: Seconds to its first character.
        seconds: To its end.
        judge_calls: Calls that read the answers of others.
        counts: All calls together; None: the engine's own counts tell.
        note: What the figures do not say of it; empty: nothing.
    """

    first: float
    seconds: float
    judge_calls: int
    counts: Counts | None = None
    note: str = ""


class Arm(Protocol):
    """A way to answer."""

    async def __call__(self, question: str, max_tokens: int) -> Reply:
        """Answer; raise PeerError if there is no answer."""


def localfusion_arm(url: str, preset: str, ends: Sequence[int] = ()) -> Arm:
    """Return localfusion's endpoint with one of its presets.

    Args:
        url: Of the endpoint.
        preset: By its name.
        ends: Tokens that the answer may not have, so that it runs to its limit.
    """

    async def ask(question: str, max_tokens: int) -> Reply:
        body = endless(chat(preset, question, max_tokens, JUDGE_TEMPERATURE), ends)
        got = await stream(url, body)
        stages = got.usage.get("stages")
        if not isinstance(stages, dict):
            raise PeerError("localfusion told no stages")
        calls = sum(stages[name]["calls"] for name in JUDGE_STAGES if name in stages)
        notes = [got.status] if got.status != "full" else []
        if got.finish == "length":
            notes.append("the answer was cut by the limit")
        note = "; ".join(notes)
        return Reply(got.first - got.began, got.ended - got.began, calls, note=note)

    return ask


def optillm_arm(url: str, relay: Relay, model: str) -> Arm:
    """Return OptiLLM's endpoint; it calls the engine through the relay."""

    async def ask(question: str, max_tokens: int) -> Reply:
        relay.calls.clear()
        got = await stream(url, chat(model, question, max_tokens, JUDGE_TEMPERATURE))
        if got.text.startswith("Error:"):
            raise PeerError(f"OptiLLM answered {got.text!r}")
        return _relayed(
            got.began, got, relay.calls, lambda call: not call.prompt.endswith(question)
        )

    return ask


def plain_arm(
    url: str,
    relay: Relay,
    model: str,
    ends: Sequence[int] = (),
    *,
    draft_tokens: int | None = None,
    seed: int | None = None,
) -> Arm:
    """Return the plain script: samples at once, wait for all, one streamed call over them.

    Args:
        url: Of the engine.
        relay: Counts its calls.
        model: That the engine serves.
        ends: As for ``localfusion_arm``.
        draft_tokens: Limit of each sample, None: the answer's.
        seed: Of the first sample, the others count on; None: by chance.
    """

    async def ask(question: str, max_tokens: int) -> Reply:
        relay.calls.clear()
        began = time.perf_counter()
        body = chat(model, question, draft_tokens or max_tokens, PANEL_TEMPERATURE)
        seeds = [{} if seed is None else {"seed": seed + place} for place in range(SAMPLES)]
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(whole(url, body | own)) for own in seeds]
        prompt = synthesis_prompt(question, [task.result() for task in tasks])
        body = endless(chat(model, prompt, max_tokens, JUDGE_TEMPERATURE), ends)
        got = await stream(url, body)
        return _relayed(began, got, relay.calls, lambda call: call.prompt != question)

    return ask


def _relayed(
    began: float, got: Stream, calls: Sequence[Call], is_judges: Callable[[Call], bool]
) -> Reply:
    cuts = sum(call.cuts for call in calls)
    note = f"{cuts} of its texts were cut by the limit" if cuts else ""
    judges = sum(is_judges(call) for call in calls)
    counts = sum((call.counts for call in calls), Counts(0, 0, 0, 0))
    return Reply(got.first - began, got.ended - began, judges, counts, note)


def synthesis_prompt(question: str, answers: Sequence[str]) -> str:
    """Return what the plain script asks its judge."""
    listed = "\n\n".join(f"Answer {place}:\n{text}" for place, text in enumerate(answers, 1))
    return SYNTHESIZE.format(question=question, answers=listed)
