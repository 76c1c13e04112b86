"""What fusion costs beside its slowest member, on real engines; every figure a ratio of one run."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace

from benches import overhead
from benches.peers_servers import end_tokens
from benches.table import Row
from localfusion.config import Config, Preset
from localfusion.engines.base import Engine, EngineFacts, EngineStats, ignore_phase
from localfusion.engines.sim import SimEngine
from localfusion.engines.sim_latency import SimProfile
from localfusion.functions import Tools
from localfusion.fusion.fusion import JUDGE_STAGES, Fusion
from localfusion.runtime import open_runtime
from localfusion.types import Answer, Delta, Message, Prompt, Request, SamplingParams

FAST, SLOW, LARGE = "smollm2-135m", "qwen2.5-coder-0.5b", "qwen2.5-coder-1.5b"
LATE = "slow"
SLOWDOWN = 10
DRAFT_TOKENS = 320
SLOW_TOKENS = 160
SHORT_TOKENS = 96


async def measure(loaded: Config) -> list[Row]:
    """Return every figure: real engines first, then our own code on simulated ones."""
    async with open_runtime(loaded, ["demo-large"]) as runtime:
        await runtime.start(ignore_phase)
        engines = {name: Recorded(engine) for name, engine in runtime.fusion.engines.items()}
        endless = {name: replace(e, banned=end_tokens(name)) for name, e in engines.items()}
        rows = [*await reading_ahead(endless)]
        rows.append(await straggler(endless))
        rows += await samples_of_one(engines)
        rows.append(await clear_verdict(engines))
    return [*rows, *await overhead.measure()]


@dataclass
class Recorded:
    """An engine that keeps the prompts it is asked.

    Attributes:
        banned: Tokens that it never says; without its end tokens all its texts are as long as they
            may be, so that two runs compare.
    """

    engine: Engine
    banned: Sequence[int] = ()
    prompts: list[Prompt] = field(default_factory=list)

    @property
    def facts(self) -> EngineFacts:
        return self.engine.facts

    async def stats(self) -> EngineStats:
        return await self.engine.stats()

    async def count_tokens(self, messages: Sequence[Message], tools: Tools | None = None) -> int:
        return await self.engine.count_tokens(messages, tools)

    async def generate(self, prompt: Prompt) -> AsyncGenerator[Delta, None]:
        if self.banned:
            never = dict.fromkeys(self.banned, -100.0)
            prompt = replace(prompt, sampling=replace(prompt.sampling, logit_bias=never))
        self.prompts.append(prompt)
        async with aclosing(self.engine.generate(prompt)) as deltas:
            async for delta in deltas:
                yield delta


async def reading_ahead(engines: Mapping[str, Recorded]) -> list[Row]:
    """Let the judge read while three short and one slow member write; then the same, cold.

    The slow member is the largest model, so that the judge's cores are free to read; where the
    judge is the largest, two cores are too few to write and read at once.
    """
    question = "Write a long and detailed story about a lighthouse, with many scenes. Case {}."
    settings = {
        "panel": [{"model": FAST, "n": 3}, {"model": LARGE, "max_tokens": SLOW_TOKENS}],
        "judge": SLOW,
        "panel_max_tokens": DRAFT_TOKENS,
        "grace": 600,
        "options": {"analysis": "none"},
    }
    answer = await ask(engines, question.format(1), **settings)
    written = answer.stages["synthesis"]
    assert written.first_token_seconds is not None
    prompt = engines[SLOW].prompts[-1]
    warm, alone = await once(engines[SLOW], prompt)
    first, *rest = prompt.messages
    other = replace(prompt, messages=(replace(first, content=f"Please. {first.content}"), *rest))
    cold, _ = await once(engines[SLOW], other)
    slowest = max(candidate.seconds for candidate in answer.candidates)
    shortest = min(candidate.usage.completion_tokens for candidate in answer.candidates)
    print(f"  drafts of {shortest} tokens and more; judge's prompt {written.usage.prompt_tokens}")
    print(
        f"  judge's first token: cold {cold:.2f} s, read ahead {written.first_token_seconds:.2f},"
    )
    print(f"  all of it read before {warm:.2f}; waited for: {path(answer)}")
    share = written.usage.cached_tokens / written.usage.prompt_tokens
    return [
        Row(
            "judge's first token, read ahead / cold", written.first_token_seconds / cold, "x", 0.25
        ),
        Row("judge's prompt read before the panel's end", share, "", 0.9, at_least=True),
        Row(
            "fusion / slowest member + judge alone, warm",
            answer.seconds / (slowest + alone),
            "x",
            1.05,
        ),
    ]


async def straggler(engines: Mapping[str, Recorded]) -> Row:
    """Add a member whose tokens come at a tenth of a real one's speed; see what it costs.

    It is simulated: a real one that is slow on these two cores would slow all others down.
    """
    settings = {"judge": SLOW, "panel_max_tokens": SHORT_TOKENS, "options": {"analysis": "none"}}
    question = "Write a long story about a harbor. Case {}."
    without = await ask(engines, question.format(1), panel=[FAST, SLOW], **settings)
    real = max(without.candidates, key=lambda candidate: candidate.seconds)
    token = real.seconds / real.usage.completion_tokens
    profile = SimProfile(inter_token=SLOWDOWN * token)
    slow = SimEngine("The sea was calm. " * SHORT_TOKENS, profile=profile)
    late: dict[str, Engine] = {**engines, LATE: slow}
    with_it = await ask(late, question.format(2), panel=[FAST, SLOW, LATE], **settings)
    print(f"  {real.model}: {token:.3f} s a token; the slow member: {SLOWDOWN * token:.3f}")
    for name, answer in (("with it", with_it), ("without", without)):
        print(f"  {name}: {answer.status} ({answer.reason}), {path(answer)}")
    return Row(
        f"panel with a member {SLOWDOWN} x slower / without it",
        with_it.seconds / without.seconds,
        "x",
        1.3,
    )


async def samples_of_one(engines: Mapping[str, Recorded]) -> list[Row]:
    """Draw four samples of one model at once, and the same four one after another."""
    settings = {"panel_max_tokens": SHORT_TOKENS, "answer_max_tokens": 1}
    question = "Explain in detail how a sailing boat can go against the wind. " * 3
    together = await ask(
        engines,
        f"Together. {question}",
        panel=[SLOW],
        judge=SLOW,
        policy="self_fusion",
        options={"n": 4, "analysis": "none"},
        **settings,
    )
    apart = 0.0
    for sample in range(4):
        one = await ask(
            engines,
            f"Separate. {question}",
            panel=[{"model": SLOW, "temperature": 0.8, "seed": sample}],
            judge=SLOW,
            **settings,
        )
        apart += one.stages["panel"].seconds
    block = engines[SLOW].facts.block_size
    later = [candidate.usage for candidate in together.candidates[1:]]
    shared = min(
        usage.cached_tokens // ((usage.prompt_tokens - 1) // block * block) for usage in later
    )
    panel = together.stages["panel"].seconds
    print(f"  four samples at once {panel:.1f} s, one after another {apart:.1f} s")
    return [
        Row("self_fusion n=4, panel / four requests in sequence", panel / apart, "x", 0.5),
        Row("its prompt's whole blocks read once (1: yes)", shared, "", 1.0, at_least=True),
    ]


async def clear_verdict(engines: Mapping[str, Recorded]) -> Row:
    """Let the judge choose; whatever it chooses stands, so that the replay is measured."""
    answer = await ask(
        engines,
        "What is the capital of France? Answer in one sentence.",
        panel=[FAST, SLOW],
        judge=LARGE,
        policy="select",
        panel_max_tokens=SHORT_TOKENS,
        options={"confidence": 0.0},
    )
    stages = [timing for stage, timing in answer.stages.items() if stage in JUDGE_STAGES]
    spent = sum(timing.usage.completion_tokens for timing in stages)
    verdict = answer.judging and answer.judging.verdict
    print(f"  exit {answer.exit}, verdict {verdict}")
    return Row("select: tokens that the judge decoded", spent, "", 1.0)


async def ask(engines: Mapping[str, Engine], question: str, **settings: object) -> Answer:
    """Answer with a preset of these settings."""
    preset = Preset.model_validate({"deadline": 1200, "answer_max_tokens": 32, **settings})
    fusion = Fusion(engines, {"bench": preset}, default_preset="bench")
    messages = (Message("user", question),)
    request = Request("bench", messages, SamplingParams(seed=1), watches="answer")
    return await fusion.complete(request)


async def once(engine: Engine, prompt: Prompt) -> tuple[float, float]:
    """Return seconds to the first token and to the last."""
    clock = asyncio.get_running_loop().time
    began, first = clock(), None
    async with aclosing(engine.generate(prompt)) as deltas:
        async for delta in deltas:
            if first is None and delta.text:
                first = clock() - began
    took = clock() - began
    return took if first is None else first, took


def path(answer: Answer) -> str:
    return ", ".join(f"{step.stage} {step.seconds:.1f} s" for step in answer.critical_path)
