"""Tasks of reasoning-gym: its own checkers, on the answer alone.

Its checkers give part of the credit for an answer that contains the right one (0.75 for ``1156``
where 156 is right); right means at least 0.999, and what they see is never a whole completion.
"""

import re
from dataclasses import dataclass

from localfusion.evals.datasets.generated import check_answer
from localfusion.evals.samples import Sample, Score, digest_of
from localfusion.evals.scorers.exact import plain
from localfusion.fusion.agreement.extract import Extractor, Kind

RIGHT = 0.999
_TAG = re.compile(r"<answer>(.*?)(?:</answer>|\Z)", re.DOTALL | re.IGNORECASE)
_MOST = 2000
"""Characters of an answer; a longer one is a completion."""
VERSION = 1


@dataclass(frozen=True, slots=True)
class GeneratedScorer:
    """Gold: ``family``, ``level``, ``seed``, ``index`` of the task; ``kind`` of its answer."""

    @property
    def identity(self) -> str:
        return digest_of(["generated", VERSION, RIGHT])

    async def score(self, sample: Sample, text: str) -> Score:
        kind: Kind = sample.gold["kind"]  # type: ignore[assignment]  # written by the generator
        answer = answer_in(plain(text), kind)
        if answer is None:
            return Score(0.0, detail="no answer found")
        value = check_answer(sample.gold, answer)
        return Score(float(value >= RIGHT), extracted=answer)


def answer_in(text: str, kind: Kind) -> str | None:
    """Return the answer proper: the last tagged one; else what it says that it is."""
    tagged = [match.group(1).strip() for match in _TAG.finditer(text)]
    stated = next((answer for answer in reversed(tagged) if answer), None)
    if kind != "text":
        found = Extractor(kind).extract(text if stated is None else stated)
        return None if found is None else _written(found.value, kind)
    if stated is None:
        found = Extractor("text").extract(text)
        stated = None if found is None else found.shown
    return stated if stated and len(stated) <= _MOST else None


def _written(value: str, kind: Kind) -> str:
    """Return a canonical value as the generators write it: 5, not 5.0; Yes, not true."""
    if kind == "boolean":
        return "Yes" if value in ("true", "yes") else "No"
    number = float(value)
    return str(int(number)) if number.is_integer() else str(number)
