"""Made-up results of an evaluation, for whatever shows them."""

from pathlib import Path
from typing import Any

import numpy as np

from localfusion.evals.report import html_page, make_report
from localfusion.evals.results import MEMBER, Outcome, Plan, Results
from localfusion.evals.samples import Dataset, Sample, Score
from localfusion.evals.store import Store
from localfusion.types import Message, Usage

HOSTILE = "</pre><script>alert(1)</script><img src=x onerror=alert(1)> \x1b[31m"


def results(
    count: int = 200,
    *,
    fuse: float = 0.5,
    members: tuple[float, ...] = (0.5, 0.4),
    seed: int = 0,
    text: str = "The answer.",
    **plan: object,
) -> Results:
    """Return made-up results in which arms are right as often as is said."""
    rng = np.random.default_rng(seed)
    names = tuple("abcdef"[: len(members)])
    samples = tuple(
        Sample(f"s{n}", f"t{n % 2}", (Message("user", text),), "number", {"answer": "1"})
        for n in range(count)
    )

    def arm(name: str, share: float) -> list[Outcome]:
        right = rng.permutation(np.arange(count) < round(share * count))
        return [
            Outcome(
                name,
                sample.id,
                0,
                Score(float(is_right), extracted=text),
                text=text,
                judge_usage=Usage(10, 5, calls=1),
                trace=f"trace-{sample.id}",
            )
            for sample, is_right in zip(samples, right, strict=True)
        ]

    outcomes = [
        one for n, share in zip(names, members, strict=True) for one in arm(MEMBER + n, share)
    ]
    outcomes += [*arm("fuse", fuse), *arm("vote", 0.9), *arm("judge", 0.3)]
    fields: dict[str, Any] = {
        "suite": "made-up",
        "data": f"{count}",
        "preset": "p",
        "settings": {},
        "members": names,
        "judge": "j",
        "arms": ("fuse", "vote", "judge"),
        "primary": ("fuse", "best"),
        "margin": 0.03,
        "seed": 0,
        "repeats": 1,
        "live": 0,
        "scoring": {"number": "1"},
        "identity": {"device": "none"},
        **plan,
    }
    return Results(Plan(**fields), Dataset("made-up", samples, "made up"), (), tuple(outcomes))


def kept(parent: Path, name: str, found: Results, *, is_finished: bool = True) -> None:
    """Write results into a folder of evaluations."""
    store = Store(parent / name)
    store.begin(found.plan, found.dataset)
    for outcome in found.outcomes:
        store.outcomes.append(outcome)
    if is_finished:
        report = make_report(found)
        store.write_report(report, html_page(report))
