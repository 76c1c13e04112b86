"""HumanEval: functions to complete, with tests; ``.jsonl`` or ``.jsonl.gz``."""

import re
from collections.abc import Iterator
from pathlib import Path

from localfusion.evals.datasets.reading import Row, rows_of, unique
from localfusion.evals.samples import Sample
from localfusion.types import Message

_ASK = "Complete this Python function. Reply with the whole function in one code block.\n\n"
_NAME = re.compile(r"[A-Za-z_]\w*\Z")


def read(path: Path) -> Iterator[Sample]:
    """Yield the samples of a file.

    Raises:
        DatasetError: names file, line and field.
    """
    return unique(((row, _sample(row)) for row in rows_of(path)), path)


def _sample(row: Row) -> Sample:
    prompt, entry, test = row.text("prompt"), row.text("entry_point"), row.text("test")
    if not _NAME.match(entry):
        raise row.error("entry_point", f"{entry!r}; expected a function's name")
    if "def check(" not in test:
        raise row.error("test", "no function check(candidate) in it")
    gold = {
        "entry": entry,
        "prompt": prompt,
        "setup": test,
        "cases": [f"check({entry})"],
    }
    asked = (Message("user", f"{_ASK}```python\n{prompt}```"),)
    return Sample(row.text("task_id"), "humaneval", asked, "code", gold)
