"""What the judge reads: anonymous drafts in the order in which they are put before it.

Letters inside, candidates outside. Text enters here alone: its style made the same for all, its
marks and control tokens defused.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from localfusion.fusion.prompts import LABELS, extend, last_question, mark, neutralize, render
from localfusion.fusion.style import normalize
from localfusion.types import Candidate, Message

REPEATED_CHARACTERS = 1000
"""A question up to this long stands behind the drafts once more: small models lose it otherwise."""
NEAR_CHARACTERS = 4000
"""Drafts shorter than this together leave the question near enough."""


@dataclass(frozen=True, slots=True)
class Draft:
    """One candidate as the judge reads it.

    Attributes:
        trace: Its reasoning, empty where there is none or it is not shown.
        is_open: It still grows: the mark behind it is not written yet.
    """

    index: int
    text: str
    trace: str = ""
    is_unfinished: bool = False
    is_open: bool = False


@dataclass(frozen=True, slots=True)
class Drafts:
    """The judge's prompt without its tail: conversation, rules, drafts.

    Attributes:
        nonce: Hex code in the marks around the drafts; the panel never sees it.
        instruction: What stands at the end of the prompt for an answer; None: our words.
    """

    conversation: tuple[Message, ...]
    nonce: str
    drafts: tuple[Draft, ...] = ()
    shows_traces: bool = True
    instruction: str | None = None

    def read(self, candidate: Candidate, *, is_open: bool = False) -> Draft:
        """Make a candidate readable for the judge."""
        trace = candidate.reasoning if self.shows_traces and not is_open else ""
        return Draft(
            candidate.index,
            neutralize(normalize(candidate.text), self.nonce),
            neutralize(trace, self.nonce),
            is_unfinished=candidate.finish_reason != "stop",
            is_open=is_open,
        )

    def adding(self, *drafts: Draft) -> "Drafts":
        return replace(self, drafts=(*self.drafts, *drafts))

    def messages(self, tail: str = "") -> tuple[Message, ...]:
        """Return the prompt; with each draft more it goes on where it ended before the tail."""
        parts = [render("judge", nonce=self.nonce)]
        labeled = list(zip(LABELS, self.drafts, strict=False))
        parts += [
            render(
                "draft",
                nonce=self.nonce,
                label=label,
                text=draft.text,
                trace=draft.trace,
                is_open=draft.is_open,
            )
            for label, draft in labeled
        ]
        if tail:
            unfinished = ", ".join(label for label, draft in labeled if draft.is_unfinished)
            parts += [render("end", unfinished=unfinished), tail]
        return extend(self.conversation, "".join(parts))

    @property
    def labels(self) -> dict[str, int]:
        """Which candidate each letter stands for."""
        return {label: draft.index for label, draft in zip(LABELS, self.drafts, strict=False)}

    @property
    def stop(self) -> str:
        """What no answer may contain: a weak judge that copies a draft is ended by its mark."""
        return mark(self.nonce)

    def referring(self, candidates: Sequence[Candidate]) -> tuple[Message, ...]:
        """Ask a member for its own answer with the drafts of others before it."""
        drafts = self.adding(*(self.read(candidate) for candidate in candidates))
        return drafts.synthesis_prompt(None, has_inline=False)

    # The tails.

    def analysis_prompt(self) -> tuple[Message, ...]:
        return self.messages(render("analyze"))

    def verdict_prompt(self) -> tuple[Message, ...]:
        letters = ", ".join(self.labels)
        return self.messages(render("verdict", letters=letters))

    def synthesis_prompt(
        self, notes: str | None, *, has_inline: bool, has_schema: bool = False
    ) -> tuple[Message, ...]:
        """Ask for the answer; ``notes``: what the judge has found out before, as data."""
        asked = last_question(self.conversation)
        is_near = sum(len(draft.text) + len(draft.trace) for draft in self.drafts) < NEAR_CHARACTERS
        tail = render(
            "synthesize",
            notes=notes and neutralize(notes, self.nonce),
            question="" if is_near or len(asked) > REPEATED_CHARACTERS else asked,
            has_inline=has_inline,
            has_schema=has_schema,
            instruction=self.instruction,
        )
        return self.messages(tail)


class Order:
    """Which drafts have their place in the judge's prompt already, while the panel still works.

    Args:
        order: ``arrival``: as they come; ``fixed``: the panel's; ``random``: shuffled by the seed.
        indices: Of all candidates that are to come.
    """

    def __init__(self, order: str, indices: Sequence[int], seed: int) -> None:
        self._wanted = list(indices)
        if order == "random":
            random.Random(seed).shuffle(self._wanted)
        self.is_arrival = order == "arrival"
        self._settled: dict[int, Candidate] = {}
        self.placed: list[Candidate] = []

    def settle(self, candidate: Candidate) -> None:
        """Note how a candidate ended; give it its place, and those that waited for it."""
        self._settled[candidate.index] = candidate
        if self.is_arrival:
            self._wanted.remove(candidate.index)
            self._place(candidate)
        while not self.is_arrival and self._wanted and self._wanted[0] in self._settled:
            self._place(self._settled[self._wanted.pop(0)])

    def _place(self, candidate: Candidate) -> None:
        if candidate.is_draft:
            self.placed.append(candidate)

    @property
    def next_open(self) -> int | None:
        """Index of the candidate that comes next for certain, though it still grows."""
        waiting = [index for index in self._wanted if index not in self._settled]
        if self.is_arrival:
            return waiting[0] if len(waiting) == 1 else None
        return self._wanted[0] if self._wanted else None
