"""The ``fusion`` object of a reply: how the answer came to be, as far as the client asked. Pure."""

from collections.abc import Collection
from dataclasses import asdict

from localfusion.judging import Judging
from localfusion.server.fields import ChatRequest
from localfusion.server.view import status_block, tokens_block
from localfusion.types import Answer, Candidate


def told_block(answer: Answer, chat: ChatRequest) -> dict[str, object]:
    """Return what a reply says of the fusion: what was asked for, else why it is not whole."""
    include = chat.options.include
    if include is not None:
        block = fusion_block(answer, include, requested=chat.requested)
        return {"fusion": block | {"ignored": list(chat.ignored)}}
    if answer.status == "full":
        return {}
    return {"fusion": status_block(answer.trace_id, answer.status, answer.reason, answer.lost)}


def fusion_block(answer: Answer, include: Collection[str], *, requested: str) -> dict[str, object]:
    """Build the object.

    Args:
        answer: With its whole account.
        include: ``candidates``, with their ``text`` and ``reasoning``; ``analysis``; ``timing``.
        requested: The name that the client asked for.
    """
    block = status_block(answer.trace_id, answer.status, answer.reason, answer.lost)
    block |= {
        "requested": requested,
        "preset": answer.preset,
        "policy": answer.policy,
        "exit": answer.exit,
        "seed": answer.seed,
        "judge": None if answer.judging is None else _judge(answer.judging, answer.model),
        "truncated_drafts": [asdict(draft) for draft in answer.truncated],
        "failed_models": [
            {"model": c.model, "error": c.error, "failure_reason": c.failure_reason}
            for c in answer.lost
        ],
        "sources": [],
    }
    if not set(include).isdisjoint(("candidates", "text", "reasoning")):
        block["candidates"] = [_candidate(candidate, include) for candidate in answer.candidates]
    if "analysis" in include:
        block["analysis"] = None if answer.analysis is None else answer.analysis.model_dump()
    if "timing" in include:
        block["timing"] = _timing(answer)
    return block


def _judge(judging: Judging, writer: str) -> dict[str, object]:
    verdict, told = judging.verdict, None
    if verdict is not None:
        told = {str(index): share for index, share in verdict.probabilities.items()}
        told["synthesize"] = verdict.synthesize
    agreement: dict[str, object] | None = None
    if judging.agreement is not None:
        agreement = {"method": "swap", "value": judging.agreement}
    elif verdict is not None:
        agreement = {"method": "margin", "value": verdict.margin}
    return {
        "model": judging.model,
        "synthesizer": writer,
        "in_panel": judging.in_panel,
        "attempts": judging.attempts,
        "verdict": told,
        "agreement": agreement,
    }


def _candidate(candidate: Candidate, include: Collection[str]) -> dict[str, object]:
    sampling = candidate.sampling
    block: dict[str, object] = {
        "index": candidate.index,
        "model": candidate.model,
        "finish_reason": candidate.finish_reason,
        "sampling": {
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_tokens,
            "seed": sampling.seed,
        },
        "seconds": candidate.seconds,
        "first_token_seconds": candidate.first_token_seconds,
        "usage": tokens_block(candidate.usage),
        "error": candidate.error,
        "failure_reason": candidate.failure_reason,
        "is_partial": candidate.is_partial,
        "is_rescued": candidate.is_rescued,
        "checks": [asdict(check) for check in candidate.checks],
    }
    if "text" in include:
        block["text"] = candidate.text
    if "reasoning" in include:
        block["reasoning"] = candidate.reasoning
    return block


def _timing(answer: Answer) -> dict[str, object]:
    cost, stages = answer.cost, answer.stages
    judged = [stages[name].usage for name in ("verdict", "analysis", "synthesis") if name in stages]
    prompt = sum(usage.prompt_tokens for usage in judged)
    seconds = [c.seconds for c in answer.candidates if c.is_usable]
    return {
        "seconds": answer.seconds,
        "critical_path": [
            {"stage": step.stage, "seconds": step.seconds}
            | ({} if step.index is None else {"index": step.index})
            for step in answer.critical_path
        ],
        "judge_cached_fraction": (
            sum(usage.cached_tokens for usage in judged) / prompt if prompt else None
        ),
        "straggler_ratio": max(seconds) / min(seconds) if seconds and min(seconds) > 0 else None,
        "engine_seconds": dict(cost.engine_seconds),
        "device_seconds": dict(cost.device_seconds),
        "joules": cost.joules,
        "money": cost.money,
        "currency": cost.currency,
    }
