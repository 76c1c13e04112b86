"""When a simulated engine's tokens come: queue, steps, block cache; not what they say.

A chain of callbacks on the event loop's clock, one per step of the engine. The form is that of
llm-d/llm-d-inference-sim, made step-wise so that a long prefill slows its neighbors, as chunked
prefill does:

    step = load * (inter_token, if any request decodes, + prefill_per_token * prompt tokens taken)
    load = 1 + (time_factor_under_load - 1) * (running - 1) / (max_num_seqs - 1)
"""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from localfusion.engines.base import Device, EngineStats
from localfusion.engines.sim_blocks import BlockPool, hash_blocks
from localfusion.errors import FusionError, OverloadedError

MAX_JITTER = 0.7
"""Largest deviation of one step from its mean, as llm-d-inference-sim clamps it."""


@dataclass(frozen=True, slots=True)
class SimProfile:
    """How fast a simulated engine is, and how much it takes at once. All times in seconds.

    Attributes:
        prefill_overhead: From admission to the first step.
        inter_token: Of one decode step.
        jitter: Standard deviation of a step as part of its mean, 0..0.3, from the request's seed.
        max_num_seqs: Requests that run at once; more wait.
        max_num_queued_reqs: Requests that wait at most; more are refused.
        time_factor_under_load: How much slower each step is with ``max_num_seqs`` running.
        block_size: Tokens per block of the prefix cache.
        caches_prefixes: Whether there is such a cache.
        num_blocks: Capacity; exhausted, the request that runs last is preempted and recomputed.
        start_seconds: From ``start()`` to ready.
        sleep_seconds, wake_seconds: Of both; it cannot sleep where the first is None.
        devices, device: What it says that it occupies, see EngineFacts.
    """

    prefill_overhead: float = 0.0
    prefill_per_token: float = 0.0
    inter_token: float = 0.0
    jitter: float = 0.0
    max_num_seqs: int = 256
    max_num_queued_reqs: int = 256
    max_num_batched_tokens: int = 2048
    time_factor_under_load: float = 1.0
    block_size: int = 16
    caches_prefixes: bool = True
    num_blocks: int = 8192
    start_seconds: float = 0.0
    sleep_seconds: float | None = None
    wake_seconds: float = 0.0
    devices: int = 1
    device: Device = "engine"

    def load(self, running: int) -> float:
        """Return the factor on every duration while ``running`` requests run."""
        if self.max_num_seqs == 1:
            return 1.0
        share = (running - 1) / (self.max_num_seqs - 1)
        return 1 + (self.time_factor_under_load - 1) * share


PROFILES = MappingProxyType(
    {
        "instant": SimProfile(),
        "8b-h100": SimProfile(0.030, 250e-6, 0.012, 2 / 12, 16, time_factor_under_load=2),
        "70b-h100-tp8": SimProfile(0.080, 500e-6, 0.025, 4 / 25, 64, time_factor_under_load=3),
        "cpu-0.5b": SimProfile(0.480, 4.2e-3, 0.087, 0, 16, time_factor_under_load=1.45),
        "cpu-1.5b": SimProfile(0.120, 8.6e-3, 0.244, 0, 16, time_factor_under_load=1.45),
        "cpu-135m": SimProfile(0.050, 1e-3, 0.033, 0, 16, time_factor_under_load=1.45),
    }
)
"""By name. The H100 ones are llm-d-inference-sim's; the CPU ones are fitted to two cores of an AMD
EPYC with vLLM 0.32 (prefill and load factor of the 135M are guesses)."""


@dataclass(slots=True, eq=False)
class SimSequence:
    """One request inside the engine.

    Attributes:
        blocks: Hashes of the prompt's full blocks, the one with the last token left out.
        delay: Extra seconds before the first step.
        cached_tokens: Prompt tokens that the first admission found in the cache.
        made: Tokens generated so far, of ``wanted``.
        stalls_at: Number of tokens after which no more come, or None.
        begins: Loop time from which it takes part in steps.
        unread: Tokens still to prefill; 0 while it decodes.
        shared, private: Blocks held, by content and for itself.
    """

    prompt_tokens: int
    wanted: int
    blocks: Sequence[int]
    order: tuple[int, int]
    rng: random.Random
    delay: float = 0.0
    cached_tokens: int | None = None
    made: int = 0
    stalls_at: int | None = None
    error: FusionError | None = None
    begins: float = 0.0
    unread: int = 0
    shared: int = 0
    private: int = 0
    _taken: int = 0
    _woken: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def length(self) -> int:
        return self.prompt_tokens + self.made

    async def advance(self) -> None:
        """Wait for the next token.

        Raises:
            FusionError: the engine died or stopped; what had been generated before counts.
        """
        while self._taken == self.made:
            if self.error is not None:
                raise self.error
            self._woken.clear()
            await self._woken.wait()
        self._taken += 1

    def wake(self) -> None:
        self._woken.set()


class SimScheduler:
    """Admits, steps and preempts; one per engine, on the loop that first submits to it."""

    def __init__(self, profile: SimProfile) -> None:
        self.profile = profile
        self.pool = BlockPool(profile.num_blocks)
        self._waiting: list[SimSequence] = []
        self._running: list[SimSequence] = []
        self._arrivals = 0
        self._generated = 0
        self._timer: asyncio.TimerHandle | None = None
        self._is_stepping = False

    @property
    def stats(self) -> EngineStats:
        return EngineStats(len(self._running), len(self._waiting), self.pool.usage, self._generated)

    def submit(
        self,
        tokens: Sequence[str],
        wanted: int,
        *,
        priority: int,
        seed: int,
        delay: float,
        stalls_at: int | None = None,
    ) -> SimSequence:
        """Queue a request for ``wanted`` tokens; its first step comes in its turn.

        ``stalls_at`` is set before the first step is planned, so that 0 is silence from the start.

        Raises:
            OverloadedError: ``max_num_queued_reqs`` wait already.
        """
        if len(self._waiting) >= self.profile.max_num_queued_reqs:
            raise OverloadedError(f"{len(self._waiting)} requests wait already; try again later")
        self._arrivals += 1
        sequence = SimSequence(
            prompt_tokens=len(tokens),
            wanted=wanted,
            blocks=hash_blocks(tokens, self.profile.block_size)
            if self.profile.caches_prefixes
            else (),
            order=(priority, self._arrivals),
            rng=random.Random(seed),
            delay=delay,
            stalls_at=stalls_at,
        )
        self._waiting.append(sequence)
        self._schedule()
        return sequence

    def release(self, sequence: SimSequence) -> None:
        """Forget a request, whatever its state; its blocks stay cached, free to be dropped."""
        if sequence in self._running:
            self._evict(sequence)
        elif sequence in self._waiting:
            self._waiting.remove(sequence)
        self._schedule()

    def hang(self) -> None:
        """Begin a step that never ends; only ``fail`` ends it."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._is_stepping = None, True

    def fail(self, error: FusionError) -> None:
        """Fail every request and drop the cache."""
        for sequence in (*self._running, *self._waiting):
            sequence.error = error
            sequence.wake()
        self._running.clear()
        self._waiting.clear()
        self.pool = BlockPool(self.profile.num_blocks)
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._is_stepping = None, False

    def _schedule(self) -> None:
        """Begin a step if none runs and some request can take it, else wait for one that can."""
        if self._is_stepping:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._admit()
        loop = asyncio.get_running_loop()
        able = [sequence for sequence in self._running if sequence.made != sequence.stalls_at]
        begins = min((sequence.begins for sequence in able), default=None)
        if begins is None:
            return
        if begins > loop.time():
            self._timer = loop.call_at(begins, self._schedule)
            return
        takes = self._plan_step([s for s in able if s.begins <= loop.time()])
        self._is_stepping = True
        self._timer = loop.call_later(self._step_seconds(takes), self._end_step, takes)

    def _admit(self) -> None:
        self._waiting.sort(key=lambda sequence: sequence.order)
        while self._waiting and len(self._running) < self.profile.max_num_seqs:
            if not self._enter(self._waiting[0]):
                return
            self._running.append(self._waiting.pop(0))

    def _enter(self, sequence: SimSequence) -> bool:
        size = self.profile.block_size
        shared = self.pool.share(sequence.blocks)
        private = -(-sequence.length // size) - shared
        if not self.pool.reserve(private):
            self.pool.release(sequence.blocks[:shared], 0)
            return False
        if sequence.cached_tokens is None:
            sequence.cached_tokens = shared * size
        sequence.shared, sequence.private = shared, private
        sequence.unread = sequence.length - shared * size
        overhead = self.profile.prefill_overhead * self.profile.load(len(self._running) + 1)
        delay = 0.0 if sequence.made else sequence.delay
        sequence.begins = asyncio.get_running_loop().time() + overhead + delay
        return True

    def _plan_step(self, sequences: Sequence[SimSequence]) -> dict[SimSequence, int]:
        """Return the prompt tokens that each request reads in this step, in order of admission.

        One that decodes reads none, and neither does one for which nothing is left.
        """
        takes: dict[SimSequence, int] = {}
        budget = self.profile.max_num_batched_tokens
        for sequence in sequences:
            takes[sequence] = min(sequence.unread, budget)
            budget -= takes[sequence]
            self._publish(sequence, takes[sequence])
        return takes

    def _publish(self, sequence: SimSequence, taken: int) -> None:
        """Share the blocks that are full with the tokens that it reads now.

        At once, as in vLLM: nobody else is admitted before the step ends, and a request that is
        aborted meanwhile leaves them behind.
        """
        read = sequence.length - sequence.unread + taken
        fresh = sequence.blocks[sequence.shared : read // self.profile.block_size]
        self.pool.publish(fresh)
        sequence.shared += len(fresh)
        sequence.private -= len(fresh)

    def _step_seconds(self, takes: dict[SimSequence, int]) -> float:
        profile = self.profile
        seconds = profile.prefill_per_token * sum(takes.values())
        if any(not sequence.unread for sequence in takes):
            seconds += profile.inter_token
        seconds *= profile.load(len(self._running))
        if profile.jitter:
            noise = min(takes, key=lambda sequence: sequence.order).rng.gauss(0, profile.jitter)
            seconds *= 1 + max(-MAX_JITTER, min(MAX_JITTER, noise))
        return seconds

    def _end_step(self, takes: dict[SimSequence, int]) -> None:
        self._timer, self._is_stepping = None, False
        for sequence, taken in takes.items():
            if sequence in self._running:
                sequence.unread -= taken
                if not sequence.unread:
                    self._make_token(sequence)
        self._schedule()

    def _make_token(self, sequence: SimSequence) -> None:
        sequence.made += 1
        self._generated += 1
        sequence.wake()
        if sequence.made == sequence.wanted:
            self._evict(sequence)
        else:
            self._grow(sequence)

    def _grow(self, sequence: SimSequence) -> None:
        """Give the request room for its newest token, at the cost of whoever comes last."""
        if sequence.length <= (sequence.shared + sequence.private) * self.profile.block_size:
            return
        while not self.pool.reserve(1):
            victim = max(self._running, key=lambda running: running.order)
            self._evict(victim)
            self._waiting.append(victim)
            if victim is sequence:
                return
        sequence.private += 1

    def _evict(self, sequence: SimSequence) -> None:
        self._running.remove(sequence)
        self.pool.release(sequence.blocks[: sequence.shared], sequence.private)
        sequence.shared = sequence.private = 0
