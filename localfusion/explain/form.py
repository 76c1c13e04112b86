"""The JSON form of an explanation."""

from collections.abc import Sequence
from dataclasses import asdict

from localfusion.explain.explain import Explanation
from localfusion.explain.support import Support, Traced
from localfusion.traces import Json


def to_json(told: Explanation) -> Json:
    """Return an explanation as JSON values."""
    return {
        "object": "trace.explanation",
        "id": told.trace,
        "verdict": told.cause.blame,
        "words": told.cause.words,
        "evidence": list(told.cause.evidence),
        "candidates": list(told.names),
        "final": told.final,
        "expect": told.expect,
        "is_right": told.is_right,
        "sentences": [_sentence(sentence, told.names) for sentence in told.sentences],
        "contradiction": None if told.contradiction is None else asdict(told.contradiction),
        "losses": [asdict(loss) for loss in told.losses],
        "replays": [asdict(trial) for trial in told.trials],
    }


def _sentence(traced: Traced, names: Sequence[str]) -> Json:
    def told(support: Support) -> Json:
        return {"model": names[support.index], **asdict(support)}

    sentence = traced.sentence
    return {
        "start": sentence.start,
        "end": sentence.end,
        "text": sentence.text,
        "is_blank": traced.is_blank,
        "support": [told(support) for support in traced.support],
        "against": [told(support) for support in traced.against],
    }
