"""What readers of files share: lines with numbers, fields that must be there, errors that point.

Nothing is downloaded: these are files that a user brings.
"""

import gzip
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from localfusion.errors import DatasetError
from localfusion.evals.samples import Sample

MOST_LINE = 8 << 20
"""Bytes of one line, or of a file that is one document."""


@dataclass(frozen=True, slots=True)
class Row:
    """One record of a file, and where it is."""

    file: Path
    line: int
    fields: Mapping[str, object]

    def error(self, field: str, expected: str) -> DatasetError:
        """Return the error of a field."""
        return DatasetError(f"{self.file}:{self.line}: {field}: {expected}")

    def text(self, field: str, *, may_be_empty: bool = False) -> str:
        """Return a text field.

        Raises:
            DatasetError: it is missing, empty or no text.
        """
        value = self.fields.get(field)
        if field not in self.fields:
            raise self.error(field, "missing; expected a text")
        if not isinstance(value, str):
            raise self.error(field, f"{type(value).__name__}; expected a text")
        if not may_be_empty and not value.strip():
            raise self.error(field, "empty; expected a text")
        return value

    def name(self, field: str) -> str:
        """Return a text or a whole number as text: what ids are.

        Raises:
            DatasetError: it is neither.
        """
        value = self.fields.get(field)
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        return self.text(field)

    def items(self, field: str, least: int = 1) -> list[object]:
        """Return a list.

        Raises:
            DatasetError: it is none, or too short.
        """
        value = self.fields.get(field)
        if not isinstance(value, list) or len(value) < least:
            raise self.error(field, f"expected a list of at least {least}")
        return value


def lines_of(file: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines of a text file, packed by gzip or not, that are not blank, with numbers.

    Raises:
        DatasetError: it cannot be read, or is not UTF-8.
    """
    number = 0
    try:
        with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as stream:
            while raw := stream.readline(MOST_LINE + 1):
                number += 1
                if len(raw) > MOST_LINE:
                    raise DatasetError(f"{file}:{number}: line: longer than {MOST_LINE} bytes")
                line = raw.decode()
                if line.strip():
                    yield number, line
    except (OSError, EOFError) as error:
        raise DatasetError(f"{file}:{number + 1}: file: cannot be read ({error})") from error
    except UnicodeDecodeError as error:
        raise DatasetError(f"{file}:{number}: line: not UTF-8; convert the file") from error


def rows_of(file: Path) -> Iterator[Row]:
    """Yield the objects of a file with one JSON object in each line.

    Raises:
        DatasetError: names the line that is none.
    """
    for number, line in lines_of(file):
        yield row(file, number, parse(file, number, line))


def parse(file: Path, number: int, text: str) -> object:
    """Read one JSON value.

    Raises:
        DatasetError: it is none.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        line = number + getattr(error, "lineno", 1) - 1
        raise DatasetError(f"{file}:{line}: line: not JSON ({error})") from error


def row(file: Path, number: int, value: object) -> Row:
    """Return a record.

    Raises:
        DatasetError: the value is no object.
    """
    if not isinstance(value, dict):
        raise DatasetError(f"{file}:{number}: line: {type(value).__name__}; expected an object")
    return Row(file, number, value)


def document(file: Path) -> object:
    """Read a file that is one JSON value.

    Raises:
        DatasetError: it is none, or too large.
    """
    text = "".join(line for _, line in lines_of(file))
    if len(text) > 16 * MOST_LINE:
        raise DatasetError(f"{file}:1: file: too large for one JSON value")
    return parse(file, 1, text)


def unique(samples: Iterable[tuple[Row, Sample]], file: Path) -> Iterator[Sample]:
    """Yield samples whose ids are all different, at least one.

    Raises:
        DatasetError: two have the same id; names the second one's line. Or there is none.
    """
    seen: dict[str, int] = {}
    for place, sample in samples:
        if sample.id in seen:
            raise place.error("id", f"{sample.id!r} is line {seen[sample.id]}'s already")
        seen[sample.id] = place.line
        yield sample
    if not seen:
        raise DatasetError(f"{file}:1: file: no samples in it")


def files_in(path: Path, *patterns: str) -> list[Path]:
    """Return a file, or those of a folder that match a pattern, sorted.

    Raises:
        DatasetError: there is none.
    """
    if path.is_file():
        return [path]
    found = sorted({file for pattern in patterns for file in path.rglob(pattern)})
    if not found:
        raise DatasetError(f"{path}:1: file: there is no {' or '.join(patterns)} here")
    return found
