"""Pairs of answers of which one is known to be better: LLMBar and JudgeBench.

Each pair is asked in both orders, for a judge that always takes the first is right half the time.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from localfusion.errors import DatasetError
from localfusion.evals.datasets.reading import Row, document, files_in, row, rows_of, unique
from localfusion.evals.samples import Sample
from localfusion.types import Message

_ASKED = """\
Which of two answers to a question is better? One follows the question and is correct, the other is
not. Their order and their length do not matter.

The question:
{question}

A. first answer:
{first}

B. second answer:
{second}

Answer with the letter of the better one: The answer is X."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two answers to a question, the better one first.

    Attributes:
        group: Subset of the file that it belongs to.
    """

    id: str
    group: str
    question: str
    better: str
    worse: str


def read_llmbar(path: Path) -> Iterator[Sample]:
    """Yield both orders of all pairs of a LLMBar file, or of a folder's ``.json`` files.

    Raises:
        DatasetError: names file, line (counted in pairs) and field.
    """
    return _both_orders(llmbar_pairs(path), path)


def read_judgebench(path: Path) -> Iterator[Sample]:
    """Yield both orders of all pairs of a JudgeBench file.

    Raises:
        DatasetError: names file, line and field.
    """
    return _both_orders(judgebench_pairs(path), path)


def pairs_of(path: Path) -> list[Pair]:
    """Read pairs of either layout: ``.json`` is LLMBar's, ``.jsonl`` JudgeBench's.

    Raises:
        DatasetError: names file, line and field.
    """
    is_lines = path.suffix == ".jsonl" or (path.is_dir() and any(path.rglob("*.jsonl")))
    found = judgebench_pairs(path) if is_lines else llmbar_pairs(path)
    pairs = [pair for _, pair in found]
    if not pairs:
        raise DatasetError(f"{path}:1: file: no pairs in it")
    return pairs


def llmbar_pairs(path: Path) -> Iterator[tuple[Row, Pair]]:
    """Yield pairs ``{input, output_1, output_2, label}``."""
    for file in files_in(path, "*.json"):
        whole = document(file)
        if not isinstance(whole, list):
            raise DatasetError(f"{file}:1: file: expected a list of pairs")
        group = file.parent.name if file.name == "dataset.json" else file.stem
        for number, value in enumerate(whole, 1):
            one = row(file, number, value)
            label = one.fields.get("label")
            if label not in (1, 2):
                raise one.error("label", f"{label!r}; expected 1 or 2")
            texts = one.text("output_1"), one.text("output_2")
            better, worse = texts if label == 1 else texts[::-1]
            yield one, Pair(f"{group}-{number}", group, one.text("input"), better, worse)


def judgebench_pairs(path: Path) -> Iterator[tuple[Row, Pair]]:
    """Yield pairs ``{pair_id, source, question, response_A, response_B, label}``."""
    for file in files_in(path, "*.jsonl"):
        for one in rows_of(file):
            label = one.text("label")
            if label not in ("A>B", "B>A"):
                raise one.error("label", f"{label!r}; expected 'A>B' or 'B>A'")
            texts = one.text("response_A"), one.text("response_B")
            better, worse = texts if label == "A>B" else texts[::-1]
            id, group = one.text("pair_id"), one.text("source")
            yield one, Pair(id, group, one.text("question"), better, worse)


def _both_orders(pairs: Iterator[tuple[Row, Pair]], path: Path) -> Iterator[Sample]:
    def samples() -> Iterator[tuple[Row, Sample]]:
        for place, pair in pairs:
            for letter, first, second in (
                ("A", pair.better, pair.worse),
                ("B", pair.worse, pair.better),
            ):
                asked = _ASKED.format(question=pair.question, first=first, second=second)
                gold = {"answer": letter}
                messages = (Message("user", asked),)
                yield (
                    place,
                    Sample(
                        f"{pair.id}-{letter}", pair.group, messages, "choice", gold, group=pair.id
                    ),
                )

    return unique(samples(), path)
