"""MT-Bench: open questions in eight categories; preferred to the reference answers, in both orders.

The first turn is asked: a second depends on an arm's own first answer, so that no panel could be
shared.
"""

from collections.abc import Iterator
from pathlib import Path

from localfusion.errors import DatasetError
from localfusion.evals.datasets.reading import Row, row, rows_of, unique
from localfusion.evals.samples import Sample
from localfusion.types import Message

QUESTIONS, REFERENCES = "question.jsonl", "reference_answer*.jsonl"


def read(path: Path) -> Iterator[Sample]:
    """Yield the questions that have a reference answer, from a folder with both files.

    Raises:
        DatasetError: names file, line and field, or the file that is missing.
    """
    file = path / QUESTIONS
    if not file.is_file():
        raise DatasetError(f"{path}:1: file: expected a folder with {QUESTIONS} and {REFERENCES}")
    references = dict(_references(path))
    found = ((row, row.name("question_id")) for row in rows_of(file))
    pairs = ((row, _sample(row, references[id])) for row, id in found if id in references)
    return unique(pairs, file)


def _references(path: Path) -> Iterator[tuple[str, str]]:
    files = sorted(path.glob(REFERENCES)) or sorted(path.glob("reference_answer/*.jsonl"))
    if not files:
        raise DatasetError(f"{path}:1: file: there is no {REFERENCES}; without one nothing is won")
    for reference in rows_of(files[0]):
        choice = row(files[0], reference.line, reference.items("choices")[0])
        yield reference.name("question_id"), _first_turn(choice, "choices[0].turns[0]")


def _sample(row: Row, reference: str) -> Sample:
    asked = (Message("user", _first_turn(row, "turns[0]")),)
    category = row.text("category")
    id = f"mt-bench-{row.name('question_id')}"
    return Sample(id, category, asked, "pair", {"reference": reference})


def _first_turn(row: Row, field: str) -> str:
    turn = row.items("turns")[0]
    if not isinstance(turn, str) or not turn.strip():
        raise row.error(field, "expected a text")
    return turn
