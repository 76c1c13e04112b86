"""How an answer is made: coroutines over a run's verbs. Each ends with an answer on every path.

Keyword-only parameters are a policy's options, set in a preset and checked at start.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from typing import Annotated, Literal

from pydantic import Field

from localfusion.config import MAX_CANDIDATES, Member, Perturbation, Preset
from localfusion.errors import QuorumError
from localfusion.fusion.agreement.extract import Extracted, Extractor
from localfusion.fusion.agreement.vote import Vote, medoid, unanimous
from localfusion.fusion.agreement.vote import vote as count_votes
from localfusion.fusion.prompts import PERTURBATIONS
from localfusion.fusion.routing import DEFAULT_RULES, Rules
from localfusion.fusion.run import Run
from localfusion.fusion.solo import FUSION_FUNCTION
from localfusion.types import Answer, Candidate, CheckOutcome

Policy = Callable[..., Awaitable[Answer]]
Comparison = Literal["inline", "separate", "none"]
Share = Annotated[float, Field(ge=0, le=1)]
Length = Annotated[int, Field(ge=0, le=1_000_000)]
Samples = Annotated[int, Field(ge=2, le=MAX_CANDIDATES)]
MAJORITY = 0.5
"""Probability from which the judge's choice breaks a tie of votes."""
PILOT_SAMPLES = 3
SELF_SAMPLES = 4
"""Gains flatten beyond about four candidates (docs/fusion.md)."""


async def single(run: Run) -> Answer:
    """Let one model answer: a plain model's name, and every baseline."""
    return await run.write()


async def fuse(run: Run, *, analysis: Comparison = "inline") -> Answer:
    """Ask the panel, let the judge compare the drafts, and write one answer from them.

    Args:
        run: The request on its way.
        analysis: ``inline``: the judge compares them for itself in front of its answer;
            ``separate``: an own call that fills the five-part analysis; ``none``: it writes at
            once.
    """
    return await _fuse(run, await run.ask(), analysis)


async def select(
    run: Run, *, confidence: Share = 0.7, swap: bool = False, analysis: Comparison = "inline"
) -> Answer:
    """Let the judge choose the best draft in one token, and give that draft word for word.

    Args:
        run: The request on its way.
        confidence: Probability from which a choice stands; below, the judge writes after all.
        swap: Ask in both orders and take the mean.
        analysis: As in ``fuse``, for when the judge writes.
    """
    return await _select(run, await run.ask(), confidence, swap=swap, analysis=analysis)


async def vote(run: Run, *, analysis: Comparison = "inline") -> Answer:
    """Count equal answers; a candidate of the majority is given word for word.

    As soon as the candidates that are left cannot change the majority they are cut. A tie, or no
    answer that two give: the judge chooses among the different answers, or writes. Where the
    question has no countable answer, the text that shares most with the others is given.

    Args:
        run: The request on its way.
        analysis: As in ``fuse``, for when the judge writes.
    """
    return await _vote(run, run.route().extractor, analysis)


async def consensus(run: Run, *, analysis: Comparison = "inline") -> Answer:
    """Take the answer of a quorum that agrees, at once and without the judge; else fuse.

    Saves the slow members' time and the judge's. A mistake that all make is not corrected.

    Args:
        run: The request on its way.
        analysis: As in ``fuse``, for when members differ.
    """
    extractor = run.route().extractor

    def agree(usable: Sequence[Candidate]) -> bool:
        return bool(extractor and unanimous(_answers(extractor, usable), quorum=run.quorum))

    drafts = await run.ask(settled=agree)
    replayable = [draft for draft in drafts if run.can_replay(draft)]
    if replayable and agree(replayable):
        return await run.choose(replayable[0], exit="consensus")
    return await _fuse(run, drafts, analysis)


async def verify(run: Run, *, confidence: Share = 0.7, analysis: Comparison = "inline") -> Answer:
    """Run what the candidates answered; one that passes its tests is given word for word.

    Code is run against the tests in the question; without tests, programs that behave the same are
    preferred. Elsewhere the arithmetic in the answers is done again. What failed is out; where that
    decides nothing the judge chooses, or writes.

    Args:
        run: The request on its way.
        confidence: Probability from which the judge's choice stands; below, it writes.
        analysis: As in ``fuse``, for when the judge writes.
    """
    drafts = await run.check(await run.ask(prefill=False))
    tested = [d for d in drafts if _has(d, "passed", "tests") and run.can_replay(d)]
    if tested:
        return await run.choose(min(tested, key=lambda draft: draft.index))
    # Right arithmetic alone does not make an answer right, and what all fail tells nothing.
    standing = [draft for draft in drafts if not _has(draft, "failed")] or drafts
    return await _select(run, await run.alike(standing) or standing, confidence, analysis=analysis)


async def cascade(
    run: Run, *, pilot: Samples = PILOT_SAMPLES, gate: Share = 1.0, analysis: Comparison = "inline"
) -> Answer:
    """Ask the panel's first member alone; where its own samples disagree, ask the others too.

    List the cheapest member first. Only answers that can be compared pass the gate; whatever else
    is asked goes to the whole panel.

    Args:
        run: The request on its way.
        pilot: Samples of the first member.
        gate: Share of them that must agree; to be fitted on recorded panels before it is lowered.
        analysis: As in ``fuse``.
    """
    first, *others = run.preset.panel
    extractor = run.route().extractor
    drafts = await run.ask([_sampled(first, pilot)], prefill=False)
    if extractor is not None:
        counted = count_votes(_answers(extractor, drafts))
        winner = _winner(run, counted, drafts)
        if winner is not None and counted.share >= gate:
            return await run.choose(winner, reason="gate", exit="gate", alone=True)
    if others:
        with suppress(QuorumError):  # their loss is in the answer's status
            drafts = (*drafts, *await run.ask(_within(others, MAX_CANDIDATES - len(drafts))))
    return await _fuse(run, drafts, analysis)


async def auto(  # noqa: PLR0913  the thresholds of the rules, each to be set in models.yaml
    run: Run,
    *,
    min_options: Annotated[int, Field(ge=0, le=26)] = DEFAULT_RULES.min_options,
    max_option: Length = DEFAULT_RULES.max_option,
    max_choice: Length = DEFAULT_RULES.max_choice,
    max_final_answer: Length = DEFAULT_RULES.max_final_answer,
    max_numeric: Length = DEFAULT_RULES.max_numeric,
    max_boolean: Length = DEFAULT_RULES.max_boolean,
    max_code: Length = DEFAULT_RULES.max_code,
    max_follow_up: Length = DEFAULT_RULES.max_follow_up,
    analysis: Comparison = "inline",
) -> Answer:
    """Choose by the kind of the question: closed: vote; code: verify; anything else: fuse.

    Its options are the thresholds of the rules, as in ``Rules``, and ``analysis`` as in ``fuse``.
    """
    rules = Rules(
        min_options=min_options,
        max_option=max_option,
        max_choice=max_choice,
        max_final_answer=max_final_answer,
        max_numeric=max_numeric,
        max_boolean=max_boolean,
        max_code=max_code,
        max_follow_up=max_follow_up,
    )
    routing = run.route(rules)
    policy = {"closed": "vote", "code": "verify", "open": "fuse"}[routing.task]
    await run.become(policy, routing)
    match routing.task:
        case "closed":
            return await _vote(run, routing.extractor, analysis)
        case "code":
            return await verify(run, analysis=analysis)
        case "open":
            return await fuse(run, analysis=analysis)


async def self_fusion(
    run: Run,
    *,
    n: Samples = SELF_SAMPLES,
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.8,
    perturbed: bool = False,
    analysis: Comparison = "inline",
) -> Answer:
    """Sample the judge's own model several times and let it write one answer from the drafts.

    The samples share the engine's cached prompt and decode in one batch.

    Args:
        run: The request on its way.
        n: Samples.
        temperature: Of each.
        perturbed: Ask each but the first in another way that means the same.
        analysis: As in ``fuse``.
    """
    hows: Sequence[Perturbation | None] = (None, *PERTURBATIONS) if perturbed else (None,)
    members = [
        Member(model=run.judge_model, temperature=temperature, perturb=hows[place % len(hows)])
        for place in range(n)
    ]
    return await _fuse(run, await run.ask(members), analysis)


async def layered(
    run: Run, *, layers: Annotated[int, Field(ge=2, le=3)] = 2, analysis: Comparison = "inline"
) -> Answer:
    """Ask the panel, show every member all drafts and ask again, and fuse the last layer.

    Args:
        run: The request on its way.
        layers: Rounds in all; a round that nobody survives leaves the one before.
        analysis: As in ``fuse``.
    """
    drafts = await run.ask(prefill=False)
    for layer in range(2, layers + 1):
        if len(drafts) < 2:
            break
        try:
            drafts = await run.ask(references=drafts, prefill=layer == layers)
        except QuorumError:
            break
    return await _fuse(run, drafts, analysis)


async def _fuse(run: Run, drafts: Sequence[Candidate], analysis: Comparison) -> Answer:
    if len(drafts) == 1:
        return await _survive(run, drafts[0])
    if run.preset.agreement:
        await run.verdict(drafts, both_orders=True)
    return await _write(run, drafts, analysis)


async def _select(
    run: Run,
    drafts: Sequence[Candidate],
    confidence: float,
    *,
    swap: bool = False,
    analysis: Comparison = "inline",
) -> Answer:
    if len(drafts) == 1:
        return await _survive(run, drafts[0])
    verdict = await run.verdict(drafts, both_orders=True if swap else None)
    if verdict is not None and verdict.choice is not None:
        chosen = next(draft for draft in drafts if draft.index == verdict.choice)
        if verdict.probabilities[chosen.index] >= confidence and run.can_replay(chosen):
            return await run.choose(chosen, exit="verdict")
    return await _write(run, drafts, analysis)


async def _survive(run: Run, draft: Candidate) -> Answer:
    """Give the only draft that is left."""
    return await run.choose(draft, reason="one_survivor", alone=True)


async def _write(run: Run, drafts: Sequence[Candidate], analysis: Comparison) -> Answer:
    """Let the judge compare the drafts as the option says, and write."""
    compared = await run.analyze(drafts) if analysis == "separate" else None
    return await run.synthesize(drafts, compared, has_inline=analysis == "inline")


async def _vote(run: Run, extractor: Extractor | None, analysis: Comparison) -> Answer:
    planned = run.preset.candidates

    def is_decided(usable: Sequence[Candidate]) -> bool:
        counted = count_votes(_answers(extractor, usable)) if extractor else None
        return counted is not None and counted.decided(planned - len(usable))

    drafts = await run.ask(settled=is_decided, prefill=False)
    usable = [draft for draft in drafts if draft.is_usable]
    if len(drafts) == 1:
        return await _survive(run, drafts[0])
    if extractor is None:
        whole = [draft for draft in usable if run.can_replay(draft)]
        if whole:
            return await run.choose(whole[medoid([draft.text for draft in whole])])
        return await _fuse(run, drafts, analysis)
    counted = count_votes(_answers(extractor, usable))
    winner = _winner(run, counted, usable)
    if winner is None and extractor.kind == "code":
        alike = await run.alike(usable)  # other words for the same program
        if 2 * len(alike) > len(usable):
            winner = next((draft for draft in alike if run.can_replay(draft)), None)
    if winner is not None:
        return await run.choose(winner, exit="consensus" if run.is_settled else None)
    # One draft of each answer: it is the answers that the judge is to choose among.
    different = [draft for g in counted.groups for draft in usable if draft.index == g.indices[0]]
    choice = different if len(different) > 1 else drafts
    return await _select(run, choice, MAJORITY, analysis=analysis)


def _answers(extractor: Extractor, candidates: Sequence[Candidate]) -> dict[int, Extracted | None]:
    return {candidate.index: extractor.extract(candidate.text) for candidate in candidates}


def _has(candidate: Candidate, outcome: CheckOutcome, kind: str | None = None) -> bool:
    return any(c.outcome == outcome and kind in (None, c.kind) for c in candidate.checks)


def _winner(run: Run, counted: Vote, candidates: Sequence[Candidate]) -> Candidate | None:
    """Return the first candidate of an accepted majority that may be given as it is."""
    if counted.leader is None or not counted.is_accepted:
        return None
    chosen = (c for c in candidates if c.index in counted.leader.indices and run.can_replay(c))
    return min(chosen, key=lambda candidate: candidate.index, default=None)


def _sampled(member: Member, samples: int) -> Member:
    return member.model_copy(update={"n": max(member.n, samples)})


def _within(members: Sequence[Member], room: int) -> list[Member]:
    """Return as many samples of the members, in their order, as there is room for."""
    chosen = []
    for member in members:
        samples = min(member.n, room)
        if samples > 0:
            chosen.append(member.model_copy(update={"n": samples}))
        room -= samples
    return chosen


def members_of(preset: Preset) -> tuple[str, ...]:
    """Return the models that a preset's policy asks, each as often as it is asked."""
    if preset.policy == "self_fusion" and preset.judge is not None:
        return (preset.judge,) * int(preset.options.get("n", SELF_SAMPLES))
    if preset.policy == "cascade":
        first, *others = preset.panel
        pilot = _sampled(first, int(preset.options.get("pilot", PILOT_SAMPLES)))
        preset = preset.model_copy(
            update={"panel": (pilot, *_within(others, MAX_CANDIDATES - pilot.n))}
        )
    return tuple(member.model for member in preset.panel for _ in range(member.n))


POLICIES: Mapping[str, Policy] = {
    "single": single,
    "fuse": fuse,
    "vote": vote,
    "select": select,
    "consensus": consensus,
    "verify": verify,
    "cascade": cascade,
    "self_fusion": self_fusion,
    "layered": layered,
    "auto": auto,
}


async def answer_to(run: Run) -> Answer:
    """Answer a request by its preset's policy, except where it calls the client's functions.

    Where a function must be called, one model does it alone. Where it may be, that model begins:
    if it calls one, that is the answer; if it writes text, that is a draft of the panel, and
    whoever writes the answer from the drafts may still call. Where the fusion itself is such a
    function, the judge decides whether it comes about.
    """
    tools, policy = run.request.tools, POLICIES[run.preset.policy]
    is_open = run.request.may_fuse or tools is not None
    if not is_open or run.preset.policy == "single" or run.request.recorded is not None:
        return await policy(run, **run.preset.options)
    if tools is not None and tools.choice == "required":
        return await run.call_tools()
    async with aclosing(await run.open()) as opening:
        if opening.function == FUSION_FUNCTION and run.request.may_fuse:
            await run.drop(opening)
        elif opening.function is not None or run.request.may_fuse:
            return await run.call_tools(opening)
        else:
            run.opening = opening
        return await policy(run, **run.preset.options)
