"""MMLU: questions with four options; the original files without a header, or copies with one."""

import csv
from collections.abc import Iterator
from pathlib import Path

from localfusion.evals.datasets.reading import Row, files_in, lines_of, unique
from localfusion.evals.samples import Sample
from localfusion.types import Message

LETTERS = "ABCD"
_HEADER = ["question", "choice0", "choice1", "choice2", "choice3", "answer"]
_ASK = "\n\nAnswer with the letter of the right option: The answer is X."


def read(path: Path) -> Iterator[Sample]:
    """Yield the samples of a file, or of all ``.csv`` files of a folder; the subject is its name.

    Raises:
        DatasetError: names file, line and field.
    """
    pairs = (pair for file in files_in(path, "*.csv") for pair in _of_file(file))
    return unique(pairs, path)


def _of_file(file: Path) -> Iterator[tuple[Row, Sample]]:
    subject = file.stem.removesuffix("_test").removesuffix("_dev").removesuffix("_val")
    reader = csv.reader((line for _, line in lines_of(file)), strict=True)
    has_header = False
    while True:
        place = Row(file, reader.line_num + 1, {})
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise place.error("line", f"not CSV ({error})") from error
        if place.line == 1 and cells == _HEADER:
            has_header = True
            continue
        yield place, _sample(place, subject, cells, has_header=has_header)


def _sample(place: Row, subject: str, cells: list[str], *, has_header: bool) -> Sample:
    if len(cells) != len(_HEADER):
        raise place.error("line", f"{len(cells)} columns; expected a question, 4 options, answer")
    question, *options, answer = cells
    if not question.strip():
        raise place.error("question", "empty; expected a text")
    right = answer.strip()
    if has_header:
        if right not in ("0", "1", "2", "3"):
            raise place.error("answer", f"{right!r}; expected 0 to 3")
        right = LETTERS[int(right)]
    elif right not in LETTERS or len(right) != 1:
        raise place.error("answer", f"{right!r}; expected A, B, C or D")
    lines = [f"{letter}. {option}" for letter, option in zip(LETTERS, options, strict=True)]
    asked = question + "\n" + "\n".join(lines) + _ASK
    gold = {"answer": right, "options": options}
    return Sample(f"{subject}-{place.line}", subject, (Message("user", asked),), "choice", gold)
