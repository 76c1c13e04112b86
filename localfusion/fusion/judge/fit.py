"""Which part of the drafts the judge reads when not all of them fit into its window. Pure.

Reasoning goes first, from its beginning, for conclusions stand at its end; then all of it; then the
answers, in proportion to their length, each keeping its head and its tail around a visible note.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from localfusion.fusion.judge.drafts import Draft
from localfusion.judging import TruncatedDraft

LEAST_TRACE = 256
"""Tokens of reasoning below which none is shown: a shred of it explains nothing."""
HEAD_SHARE = 0.5
"""Of what is kept of an answer; the rest is its end."""
NOTE_TOKENS = 16
"""What a note like ``[… 412 tokens left out …]`` takes."""


@dataclass(frozen=True, slots=True)
class Measured:
    """A draft and its tokens by the judge's tokenizer."""

    draft: Draft
    text: int
    trace: int


def fit(
    drafts: Sequence[Measured], room: int
) -> tuple[tuple[Draft, ...], tuple[TruncatedDraft, ...]]:
    """Shorten drafts to ``room`` tokens together.

    Returns:
        The drafts in the same order, and those whose answer was cut; both empty where even the
        notes do not fit.
    """
    texts = sum(measured.text for measured in drafts)
    if texts <= room:
        shares = _equal_shares([measured.trace for measured in drafts], room - texts)
        kept = tuple(
            replace(m.draft, trace=_end(m.draft.trace, m.trace, share))
            for m, share in zip(drafts, shares, strict=True)
        )
        return kept, ()
    bare = [replace(measured.draft, trace="") for measured in drafts]
    budget = room - NOTE_TOKENS * len(drafts)
    if budget < len(drafts):
        return (), ()
    cut: list[TruncatedDraft] = []
    for place, measured in enumerate(drafts):
        keep = budget * measured.text // texts
        if keep < measured.text:
            bare[place] = replace(bare[place], text=_middle_out(measured, keep))
            cut.append(TruncatedDraft(measured.draft.index, keep, measured.text))
    return tuple(bare), tuple(cut)


def _equal_shares(wanted: Sequence[int], room: int) -> list[int]:
    """Give everyone the same, and what one does not need to the others."""
    shares = [0] * len(wanted)
    open_places = sorted(range(len(wanted)), key=lambda place: wanted[place])
    for done, place in enumerate(open_places):
        shares[place] = min(wanted[place], max(0, room) // (len(wanted) - done))
        room -= shares[place]
    return shares


def _end(text: str, tokens: int, keep: int) -> str:
    """Return the end of a text; tokens are taken as equally long."""
    if keep >= tokens:
        return text
    return "… " + text[-(len(text) * (keep - 1) // tokens) :] if keep >= LEAST_TRACE else ""


def _middle_out(measured: Measured, keep: int) -> str:
    text, tokens = measured.draft.text, measured.text
    length = len(text) * keep // tokens
    head = int(length * HEAD_SHARE)
    left_out = tokens - keep
    return f"{text[:head]}\n[… {left_out} tokens left out …]\n{text[len(text) - length + head :]}"
