"""A panel of different models beside a plain script on the same engines.

Members that differ in size and speed are what a panel is made of, and waiting for the slowest of
them is what a judge can use: it reads the other drafts meanwhile. Where all drafts are of one model
and end in the same step, as in ``benches.peers``, there is no such time.
"""

import asyncio
import statistics
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import replace

from benches.fusion import FAST, LARGE, SLOW, once
from benches.peers_arms import synthesis_prompt
from benches.peers_servers import end_tokens
from benches.table import Row
from localfusion.config import Config, Preset
from localfusion.engines.base import Engine, ignore_phase
from localfusion.fusion import Fusion
from localfusion.runtime import open_runtime
from localfusion.types import Answer, Message, Prompt, Request, SamplingParams

QUESTION = "Write a long and detailed story about a lighthouse, with many scenes. Case {}."
SAMPLES = 3
"""Of the fast model."""
LONG_DRAFTS = 5
"""A seed with which the small model does not stop after a few words; printed is what came."""
DRAFT_TOKENS = 320
SLOW_TOKENS = 160
ANSWER_TOKENS = 64
TEMPERATURE = 0.7


async def measure(loaded: Config, rounds: int) -> list[Row]:
    """Ask both ways once a round, in turns; return the ratio of the medians."""
    print(
        f"  a panel of different models: {SAMPLES} x {FAST} to {DRAFT_TOKENS} tokens, {LARGE} to "
        f"{SLOW_TOKENS}; judge {SLOW}, {ANSWER_TOKENS} tokens",
        flush=True,
    )
    ours: list[tuple[float, float]] = []
    plain: list[tuple[float, float]] = []
    async with open_runtime(loaded, ["demo-large"]) as runtime:
        await runtime.start(ignore_phase)
        engines = runtime.fusion.engines
        for number in range(rounds):
            arms = [(ours, _ours), (plain, _plain)]
            for place, (told, arm) in enumerate(arms if number % 2 else arms[::-1]):
                told.append(await arm(engines, QUESTION.format(2 * number + place)))
    for name, told in (("localfusion", ours), ("plain script", plain)):
        spans = ", ".join(f"{first:.1f} and {last:.1f}" for first, last in told)
        print(f"  {name}: first and last token after {spans} s", flush=True)
    rows = []
    for place, what in enumerate(("first token", "wall time")):
        mine, other = (statistics.median(run[place] for run in told) for told in (ours, plain))
        rows.append(
            Row(f"{what}: localfusion / plain script, different models", mine / other, "x", 1.0)
        )
    return rows


async def _ours(engines: Mapping[str, Engine], question: str) -> tuple[float, float]:
    preset = Preset.model_validate(
        {
            "panel": [{"model": FAST, "n": SAMPLES}, {"model": LARGE, "max_tokens": SLOW_TOKENS}],
            "judge": SLOW,
            "panel_max_tokens": DRAFT_TOKENS,
            "grace": 600,  # the script waits for everyone too
            "deadline": 1200,
            "options": {"analysis": "none"},
        }
    )
    fusion = Fusion(engines, {"mixed": preset}, default_preset="mixed")
    sampling = replace(_writing(), seed=LONG_DRAFTS)
    messages = (Message("user", question),)
    answer = await fusion.complete(Request("mixed", messages, sampling, watches="answer"))
    written = answer.stages["synthesis"].usage
    print(f"  ours: judge's prompt {written.prompt_tokens}, {answer.status}", flush=True)
    return _first_word(answer), answer.seconds


def _writing() -> SamplingParams:
    """Return how the answer is written: to its limit, so that no luck with lengths decides."""
    ends = dict.fromkeys(end_tokens(SLOW), -100.0)
    return SamplingParams(temperature=0.0, max_tokens=ANSWER_TOKENS, logit_bias=ends)


def _first_word(answer: Answer) -> float:
    written = answer.stages["synthesis"]
    return answer.seconds - written.seconds + (written.first_token_seconds or 0.0)


async def _plain(engines: Mapping[str, Engine], question: str) -> tuple[float, float]:
    """Do what one would by hand: ask all four, wait for all, then let the judge write."""
    clock = asyncio.get_running_loop().time
    began = clock()

    async def draft(model: str, tokens: int, seed: int) -> str:
        sampling = SamplingParams(temperature=TEMPERATURE, max_tokens=tokens, seed=seed)
        prompt = Prompt((Message("user", question),), sampling)
        async with aclosing(engines[model].generate(prompt)) as deltas:
            return "".join([delta.text async for delta in deltas])

    asked = [(FAST, DRAFT_TOKENS)] * SAMPLES + [(LARGE, SLOW_TOKENS)]
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(draft(*who, LONG_DRAFTS + place)) for place, who in enumerate(asked)
        ]
    prompt = synthesis_prompt(question, [task.result() for task in tasks])
    panel = clock() - began
    told = Prompt((Message("user", prompt),), _writing())
    first, took = await once(engines[SLOW], told)
    count = await engines[SLOW].count_tokens(told.messages)
    print(f"  plain script: judge's prompt {count}", flush=True)
    return panel + first, panel + took
