"""Logs for inspect_ai's viewer: one for each arm, where the package is installed.

The evaluation itself does not need it: the samples were asked and scored by ours.
"""

import time
from collections.abc import Sequence
from pathlib import Path

from localfusion.evals.results import Outcome, Results
from localfusion.evals.samples import Sample

FOLDER = "inspect"


def write_logs(results: Results, folder: Path) -> Path | None:
    """Write a log for each arm; return their folder, None where inspect_ai is not installed.

    Never from within an event loop: inspect_ai would then patch asyncio for the whole process.
    """
    try:
        from inspect_ai.log import EvalLog, write_eval_log
    except ImportError:
        return None
    samples = {sample.id: sample for sample in results.dataset.samples}
    arms: dict[str, list[Outcome]] = {}
    for outcome in results.outcomes:
        arms.setdefault(outcome.arm, []).append(outcome)
    target = folder / FOLDER
    target.mkdir(exist_ok=True)
    for arm, outcomes in arms.items():
        log = _log(results, arm, outcomes, samples)
        assert isinstance(log, EvalLog)
        name = "".join(c if c.isalnum() or c in "-._" else "-" for c in arm)
        write_eval_log(log, str(target / f"{name}.eval"))
    return target


def _log(
    results: Results, arm: str, outcomes: Sequence[Outcome], samples: dict[str, Sample]
) -> object:
    from inspect_ai.log import (
        EvalConfig,
        EvalDataset,
        EvalLog,
        EvalMetric,
        EvalResults,
        EvalScore,
        EvalSpec,
    )

    plan = results.plan
    scored = [o.score.value for o in outcomes if o.score.value is not None]
    mean = sum(scored) / len(scored) if scored else 0.0
    created = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime())
    return EvalLog(
        status="success",
        eval=EvalSpec(
            created=created,
            task=f"{plan.suite}/{arm}",
            dataset=EvalDataset(name=plan.suite, samples=len(samples), sample_ids=list(samples)),
            model=f"localfusion/{plan.preset}",
            config=EvalConfig(),
            packages={"localfusion": str(plan.identity.get("localfusion", ""))},
            metadata={"arm": arm, "judge": plan.judge, "members": list(plan.members)},
        ),
        results=EvalResults(
            total_samples=len(outcomes),
            completed_samples=len(outcomes),
            scores=[
                EvalScore(
                    name="score",
                    scorer="localfusion",
                    scored_samples=len(scored),
                    unscored_samples=len(outcomes) - len(scored),
                    metrics={"mean": EvalMetric(name="mean", value=mean)},
                )
            ],
        ),
        samples=[_sample(outcome, samples[outcome.sample], arm) for outcome in outcomes],
    )


def _sample(outcome: Outcome, sample: Sample, arm: str) -> object:
    from inspect_ai.log import EvalSample
    from inspect_ai.model import ChatMessageAssistant, ChatMessageSystem, ChatMessageUser
    from inspect_ai.model import ModelOutput as Output
    from inspect_ai.scorer import Score

    kinds = {"system": ChatMessageSystem, "assistant": ChatMessageAssistant}
    asked = [kinds.get(m.role, ChatMessageUser)(content=m.content) for m in sample.messages]
    score = outcome.score
    value = float("nan") if score.value is None else score.value
    return EvalSample(
        id=sample.id,
        epoch=outcome.repeat + 1,
        input=asked,
        target=str(sample.gold.get("answer", "")),
        messages=[*asked, ChatMessageAssistant(content=outcome.text)],
        output=Output.from_content(model=outcome.model or arm, content=outcome.text),
        scores={"score": Score(value=value, answer=score.extracted, explanation=score.detail)},
        metadata={
            "task": sample.task,
            "status": outcome.status,
            "reason": outcome.reason,
            "trace": outcome.trace,
        },
    )
