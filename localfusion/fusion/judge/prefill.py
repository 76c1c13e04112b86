"""Prefill: the judge reads finished drafts while the panel still works.

Each time its prompt has grown by enough, the judge's engine is asked for one token of it, at the
lowest priority: what it has read stays in its prefix cache, and at the panel's end only the tail is
left. Nothing but time depends on it: a prefill that fails or is skipped changes no answer.
"""

import asyncio

from localfusion.engines.base import Engine
from localfusion.errors import FusionError
from localfusion.events import Event, PanelAdded, PanelCompleted, PanelDelta, PrefillCompleted
from localfusion.fusion.calls import Calls, Reading
from localfusion.fusion.judge.drafts import Draft, Drafts, Order
from localfusion.fusion.panel import Emit
from localfusion.types import Candidate, Message, Prompt, SamplingParams, Usage

PRIORITY = 10
MOST_KV_USAGE = 0.85
"""Use of the judge's KV cache above which reading ahead would push out what others need."""
LEAST_TOKENS = 32
"""Growth for which a request of its own is worth it; at least one block, for blocks are shared."""


class Prefill:
    """Follows the panel's events and keeps the judge's cache as far as it can be.

    Args:
        model: The judge; its engine has a prefix cache.
        order: Knows which drafts have their place; settled before ``see`` is called.
        room: Tokens that the drafts may take; beyond, they are cut later and reading them now would
            be for nothing.
    """

    def __init__(
        self, calls: Calls, model: str, drafts: Drafts, order: Order, emit: Emit, *, room: int
    ) -> None:
        self._calls = calls
        self._model = model
        self._engine: Engine = calls.engines[model]
        self._base = drafts
        self._order = order
        self._emit = emit
        self._room = room
        self._conversation = calls.counts.get(model, 0)
        self._growing: dict[int, PanelAdded] = {}
        self._texts: dict[int, list[str]] = {}
        self._tokens: dict[int, int] = {}
        self._placed: list[Draft] = []
        self._grown = asyncio.Event()
        self._read = 0
        self._has_read: tuple[Message, ...] = ()

    def see(self, event: Event) -> None:
        """Take note of the panel's progress."""
        match event:
            case PanelAdded():
                self._growing[event.index] = event
                self._texts[event.index] = []
            case PanelDelta(index=index, text=text) if text:
                self._texts[index].append(text)
                if index == self._order.next_open:
                    self._grown.set()
            case PanelCompleted(candidate=candidate):
                del self._growing[candidate.index]
                self._tokens[candidate.index] = candidate.usage.completion_tokens
                self._grown.set()

    async def run(self) -> None:
        """Read on until cancelled, or until reading on makes no sense any more."""
        # A member's engine reads the conversation anyway; any other one would only later.
        is_member = any(event.model == self._model for event in self._growing.values())
        if not (is_member or await self._extend(self._base, self._conversation)):
            return
        while True:
            await self._grown.wait()
            self._grown.clear()
            tokens = self._tokens_now()
            if tokens - self._conversation > self._room:
                await self._emit(PrefillCompleted(drafts=len(self._placed), skipped="window"))
                return
            if tokens - self._read < max(LEAST_TOKENS, self._engine.facts.block_size):
                continue
            if not await self._extend(self._drafts_now(), tokens):
                return

    def _tokens_now(self) -> int:
        """Return about how many tokens the prompt has now; each delta is about one."""
        placed = sum(self._tokens[candidate.index] for candidate in self._order.placed)
        index = self._order.next_open
        grown = len(self._texts[index]) if index in self._growing else 0
        return self._conversation + placed + grown

    def _drafts_now(self) -> Drafts:
        placed = self._order.placed
        self._placed += [self._base.read(c) for c in placed[len(self._placed) :]]
        drafts = self._base.adding(*self._placed)
        index = self._order.next_open
        if index not in self._growing:
            return drafts
        event = self._growing[index]
        # Up to a break: the last words may yet be read otherwise, when their line is complete.
        text = "".join(self._texts[event.index]).rstrip()
        text = text[: text.rfind(" ") + 1].rstrip()
        candidate = Candidate(event.index, event.model, event.sampling, text)
        return drafts.adding(self._base.read(candidate, is_open=True)) if text else drafts

    async def _extend(self, drafts: Drafts, tokens: int) -> bool:
        """Let the engine read the prompt; return whether to go on."""
        messages = drafts.messages()
        if messages == self._has_read:
            return True
        whole = sum(not draft.is_open for draft in drafts.drafts)
        prompt = Prompt(messages, SamplingParams(temperature=0, max_tokens=1), priority=PRIORITY)
        reading = Reading()
        try:
            if (await self._engine.stats()).kv_cache_usage > MOST_KV_USAGE:
                await self._emit(PrefillCompleted(drafts=whole, skipped="kv_cache_full"))
                return True
            await self._read_ahead(prompt, reading, tokens - self._read)
        except FusionError as error:
            await self._emit(PrefillCompleted(drafts=whole, skipped=error.code))
            return False
        self._read, self._has_read = tokens, messages
        await self._emit(
            PrefillCompleted(
                drafts=whole,
                tokens=reading.usage.prompt_tokens,
                cached_tokens=reading.usage.cached_tokens,
                seconds=self._calls.now - reading.began,
            )
        )
        return True

    async def _read_ahead(self, prompt: Prompt, reading: Reading, new_tokens: int) -> None:
        usage = None
        try:
            await self._calls.read(self._model, prompt, reading)
            usage = reading.usage
        finally:
            # One that is cut tells no usage; what it was to read is known.
            usage = usage or Usage(new_tokens, calls=1)
            self._calls.ledger.stage("prefill", self._calls.now - reading.began, usage)
