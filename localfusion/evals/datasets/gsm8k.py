"""GSM8K: ``{question, answer}`` a line; the number behind the last ``####`` is right.

The set is in every model's training: good for trying the machinery, not for claims.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from localfusion.evals.datasets.reading import Row, rows_of, unique
from localfusion.evals.samples import Sample
from localfusion.types import Message

_CALCULATION = re.compile(r"<<[^>]*>>")
_NUMBER = re.compile(r"[-+]?\d[\d,]*(?:\.\d+)?")
_ASK = "\n\nEnd with: The answer is N."


def read(path: Path) -> Iterator[Sample]:
    """Yield the samples of a file.

    Raises:
        DatasetError: names file, line and field.
    """
    return unique(((row, _sample(row)) for row in rows_of(path)), path)


def _sample(row: Row) -> Sample:
    question, solution = row.text("question"), row.text("answer")
    _, mark, last = _CALCULATION.sub("", solution).rpartition("####")
    number = _NUMBER.search(last)
    if not mark or number is None:
        raise row.error("answer", "no number behind ####; expected as in '… #### 42'")
    gold = {"answer": number.group().replace(",", "")}
    asked = (Message("user", question + _ASK),)
    return Sample(f"gsm8k-{row.line}", "gsm8k", asked, "number", gold)
