"""From the judge's one token to a verdict, and how far two verdicts agree. Pure.

Asked for at once and without thinking: reasoning before the verdict collapses its distribution
(arXiv 2503.03064).
"""

import math
from collections.abc import Mapping
from dataclasses import replace

from localfusion.errors import JudgeError
from localfusion.fusion.prompts import SYNTHESIZE
from localfusion.judging import Verdict

TOP_LOGPROBS = 20
MOST_OUTSIDE = 0.5
"""Probability of anything but a letter above which the token is no verdict."""
UNCLEAR_MARGIN = 0.2
"""Lead of the best draft below which the other order is asked too, where that is wanted."""
_AROUND = " \t\n*_`'\"().:[]"


def read_verdict(logprobs: Mapping[str, float], labels: Mapping[str, int]) -> Verdict:
    """Read the likeliest first tokens of the judge.

    Args:
        logprobs: Of each token; a letter counts however it is written, ``A``, `` A`` or ``(A``.
        labels: Which candidate each letter stands for.

    Raises:
        JudgeError: most of it is no letter, or there is nothing.
    """
    letters = dict.fromkeys((*labels, SYNTHESIZE), 0.0)
    for token, logprob in logprobs.items():
        letter = token.strip(_AROUND)
        if letter in letters:
            letters[letter] += math.exp(min(logprob, 0.0))
    total = sum(letters.values())
    if total < 1 - MOST_OUTSIDE:
        raise JudgeError(
            f"the judge's verdict is no letter with probability {max(0.0, 1 - total):.2f}",
            code="judge_schema_mismatch",
        )
    shares = {letter: p / total for letter, p in letters.items()}
    best, second = sorted(shares.values(), reverse=True)[:2]
    return Verdict(
        probabilities={index: shares[label] for label, index in labels.items()},
        synthesize=shares[SYNTHESIZE],
        margin=best - second,
    )


def average(first: Verdict, second: Verdict) -> Verdict:
    """Return the mean of two verdicts on the same drafts, and their overlap as ``agreement``."""
    indices = first.probabilities.keys() & second.probabilities.keys()
    mean = {i: (first.probabilities[i] + second.probabilities[i]) / 2 for i in sorted(indices)}
    synthesize = (first.synthesize + second.synthesize) / 2
    overlap = min(first.synthesize, second.synthesize)
    overlap += sum(min(first.probabilities[i], second.probabilities[i]) for i in indices)
    best, runner_up = sorted((*mean.values(), synthesize), reverse=True)[:2]
    return replace(
        first,
        probabilities=mean,
        synthesize=synthesize,
        agreement=min(1.0, overlap),
        margin=best - runner_up,
    )
