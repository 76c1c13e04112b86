"""Prefill: the judge reads finished drafts while the panel still works.

Each time its prompt has grown by enough, the judge's engine is asked for one token of it, at the
lowest priority: what it has read stays in its prefix cache, and at the panel's end only the tail is
left. Nothing but time depends on it: a prefill that fails or is skipped changes no answer.
"""

import asyncio
from collections.abc import Collection, Sequence

from localfusion.engines.base import Engine
from localfusion.errors import FusionError
from localfusion.events import Event, PanelAdded, PanelCompleted, PanelDelta, PrefillCompleted
from localfusion.fusion.calls import Calls, Reading
from localfusion.fusion.judge.drafts import Draft, Drafts, Order
from localfusion.fusion.panel import Emit
from localfusion.types import Candidate, Prompt, SamplingParams, Usage

PRIORITY = 10
MOST_KV_USAGE = 0.85
"""Use of the judge's KV cache above which reading ahead would push out what others need."""
LEAST_TOKENS = 32
"""Growth for which a request of its own is worth it; at least one block, for blocks are shared."""
GUESSED = 3
"""Times that growth, where several drafts are open and which one comes next is a guess: they may
end together, and then only one of them has been read."""


class Prefill:
    """Follows the panel's events and keeps the judge's cache as far as it can be.

    Args:
        model: The judge; its engine has a prefix cache.
        members: Models of the panel.
        order: Knows which drafts have their place; settled before ``see`` is called.
        room: Tokens that the drafts may take; beyond, they are cut later and reading them now would
            be for nothing.
    """

    def __init__(  # noqa: PLR0913  made in one place, of what that place knows
        self,
        calls: Calls,
        model: str,
        members: Collection[str],
        drafts: Drafts,
        order: Order,
        emit: Emit,
        *,
        room: int,
    ) -> None:
        self._calls = calls
        self._model = model
        self._members = members
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
        self._next: int | None = None
        self._has_read: list[tuple[int, int]] = []  # index and tokens of each draft, in order

    def see(self, event: Event) -> None:
        """Take note of the panel's progress."""
        match event:
            case PanelAdded():
                self._growing[event.index] = event
                self._texts[event.index] = []
            case PanelDelta(index=index, text=text) if text:
                self._texts[index].append(text)
                if self._next is None or index == self._next:
                    self._grown.set()
            case PanelCompleted(candidate=candidate):
                del self._growing[candidate.index]
                self._tokens[candidate.index] = candidate.usage.completion_tokens
                self._grown.set()

    async def run(self) -> None:
        """Read on until cancelled, or until reading on makes no sense any more."""
        # A member's engine reads the conversation anyway; any other one would only later.
        if self._model not in self._members and not await self._extend([]):
            return
        while True:
            await self._grown.wait()
            self._grown.clear()
            if self._is_writing:
                continue
            drafts = self._sequence()
            if sum(tokens for _, tokens in drafts) > self._room:
                await self._emit(PrefillCompleted(drafts=len(self._order.placed), skipped="window"))
                return
            least = max(LEAST_TOKENS, self._engine.facts.block_size)
            is_guess = len(self._growing) > 1 and self._order.next_open is None
            if self._new(drafts) < least * (GUESSED if is_guess and self._next is not None else 1):
                continue
            if not await self._extend(drafts):
                return

    @property
    def _is_writing(self) -> bool:
        """Whether the judge's cores write a draft: they would read at its expense, none sooner."""
        if self._engine.facts.device != "cpu":
            return False
        return any(event.model == self._model for event in self._growing.values())

    def _sequence(self) -> list[tuple[int, int]]:
        """Return which drafts the prompt has now, each with about its tokens.

        The last may still grow: the one whose place is known, else the longest, for it will most
        likely be the next to arrive. Where that is wrong, only what was read of it is lost.
        """
        found = [(c.index, self._tokens[c.index]) for c in self._order.placed]
        known = self._order.next_open
        grown = {
            index: len(self._texts[index]) * self._calls.panel_interval for index in self._growing
        }
        if known is None and self._order.is_arrival and grown:
            longest = max(grown, key=lambda index: grown[index])
            # No change of mind for a few words more.
            keeps = self._next in grown and grown[self._next] + LEAST_TOKENS >= grown[longest]
            known = self._next if keeps else longest
        self._next = known if known in self._growing else None
        if self._next is not None:
            found.append((self._next, grown[self._next]))
        return found

    def _new(self, drafts: Sequence[tuple[int, int]]) -> int:
        """Return how many of these tokens the engine has not read yet."""
        known = 0
        for (was, tokens), (is_now, _) in zip(self._has_read, drafts, strict=False):
            if was != is_now:
                break
            known += tokens
        return sum(tokens for _, tokens in drafts) - known

    def _prompt(self) -> tuple[Drafts, int]:
        """Return the prompt of ``_sequence``, and how many of its drafts are whole."""
        placed = self._order.placed
        self._placed += [self._base.read(c) for c in placed[len(self._placed) :]]
        drafts = self._base.adding(*self._placed)
        if self._next is None:
            return drafts, len(self._placed)
        event = self._growing[self._next]
        # Up to a break: the last words may yet be read otherwise, when their line is complete.
        text = "".join(self._texts[event.index]).rstrip()
        text = text[: text.rfind(" ") + 1].rstrip()
        candidate = Candidate(event.index, event.model, event.sampling, text)
        draft = self._base.read(candidate, is_open=True)
        return drafts.adding(draft) if text else drafts, len(self._placed)

    async def _extend(self, drafts: list[tuple[int, int]]) -> bool:
        """Let the engine read the prompt with these drafts; return whether to go on."""
        content, whole = self._prompt()
        sampling = SamplingParams(temperature=0, max_tokens=1)
        prompt = Prompt(content.messages(), sampling, priority=PRIORITY)
        new_tokens = self._new(drafts) + (0 if self._has_read else self._conversation)
        reading = Reading()
        try:
            if (await self._engine.stats()).kv_cache_usage > MOST_KV_USAGE:
                await self._emit(PrefillCompleted(drafts=whole, skipped="kv_cache_full"))
                return True
            await self._read_ahead(prompt, reading, new_tokens)
        except FusionError as error:
            await self._emit(PrefillCompleted(drafts=whole, skipped=error.code))
            return False
        self._has_read = drafts
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
