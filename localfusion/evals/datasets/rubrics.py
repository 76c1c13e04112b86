"""Open questions with weighted criteria, in DRACO's layout; files of one's own too.

A line: ``{id, problem, answer, domain}``; ``answer`` is JSON text, or an object, with ``sections``
of ``criteria`` ``{id, weight, requirement}``. Source of the layout: arXiv 2602.11685.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

from localfusion.evals.datasets.reading import Row, parse, row, rows_of, unique
from localfusion.evals.samples import Sample
from localfusion.types import Message

NOTE = "closed-book, local scoring model; not comparable with published DRACO scores"


def read(path: Path) -> Iterator[Sample]:
    """Yield the samples of a file.

    Raises:
        DatasetError: names file, line and field; so for a rubric whose positive weights sum to 0.
    """
    return unique(((row, _sample(row)) for row in rows_of(path)), path)


def _sample(row: Row) -> Sample:
    criteria = list(_criteria(row))
    ids = [one["id"] for one in criteria]
    if len(set(ids)) < len(ids):
        twice = next(id for id in ids if ids.count(id) > 1)
        raise row.error("answer.sections", f"criterion {twice!r} is there twice")
    if sum(max(0.0, float(str(one["weight"]))) for one in criteria) <= 0:
        raise row.error("answer.sections", "the positive weights sum to 0; no answer can score")
    domain = str(row.fields.get("domain") or "open")
    asked = (Message("user", row.text("problem")),)
    return Sample(row.name("id"), domain, asked, "rubric", {"criteria": criteria})


def _criteria(of: Row) -> Iterator[Mapping[str, object]]:
    told = of.fields.get("answer")
    if isinstance(told, str):
        told = parse(of.file, of.line, told)
    if not isinstance(told, dict):
        raise of.error("answer", "expected JSON text with sections of criteria")
    rubric = Row(of.file, of.line, told)
    for section in rubric.items("sections"):
        for value in row(of.file, of.line, section).items("criteria", least=0):
            criterion = row(of.file, of.line, value)
            weight = criterion.fields.get("weight")
            if isinstance(weight, bool) or not isinstance(weight, int | float) or weight == 0:
                raise of.error("criteria.weight", f"{weight!r}; expected a number other than 0")
            yield {
                "id": criterion.name("id"),
                "weight": weight,
                "requirement": criterion.text("requirement"),
            }
