"""BIG-Bench Hard: ``{canary, examples: [{input, target}]}``, one task a file."""

from collections.abc import Iterator
from pathlib import Path

from localfusion.evals.datasets.reading import Row, document, files_in, row, unique
from localfusion.evals.samples import Sample
from localfusion.types import Message

_ASK = "\n\nEnd with: The answer is X."


def read(path: Path) -> Iterator[Sample]:
    """Yield the samples of a file, or of all ``.json`` files of a folder.

    Raises:
        DatasetError: names file, line and field; lines are counted in examples.
    """
    return unique((pair for file in files_in(path, "*.json") for pair in _of_file(file)), path)


def _of_file(file: Path) -> Iterator[tuple[Row, Sample]]:
    whole = row(file, 1, document(file))
    for number, value in enumerate(whole.items("examples"), 1):
        if not isinstance(value, dict):
            raise whole.error(f"examples[{number - 1}]", "expected an object")
        example = Row(file, number, value)
        asked = (Message("user", example.text("input") + _ASK),)
        gold = {"answer": example.text("target")}
        yield example, Sample(f"{file.stem}-{number}", file.stem, asked, "text", gold)
