"""Every row of docs/threats.md has a test or says why not; every marker belongs to a row."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
PAGE = TESTS.parent / "docs" / "threats.md"
TABLES = {"T": "threat", "P": "promise", "M": "malformed"}
NUMBERS = {"T": range(1, 23), "P": range(1, 17)}
MALFORMED = (
    "01 02 03 06 08 09 10 11 12 13 15 16 17 18 20 22 23 25 26 27 28 29 30 31 32 34 35 36 37 38 39 "
    "40 41 42 44 46 47 48"
)
REASON = re.compile(r"\b(?:issue [D-H]|pending: [a-z ]+ of issue [D-H])\b")


def rows() -> Iterator[tuple[str, str, str]]:
    """Yield table, number and last cell of each row."""
    table = ""
    for line in PAGE.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| ") and cells[0] in TABLES:
            table = cells[0]
        elif line.startswith("| "):
            yield table, cells[0], cells[-1]


ROWS = list(rows())


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@cache
def functions(path: Path) -> frozenset[str]:
    found = ast.walk(tree(path))
    return frozenset(n.name for n in found if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef))


@cache
def markers() -> frozenset[tuple[str, str]]:
    """Return table and number of each marker in the tests, and of each table row of theirs."""
    found = set()
    tables = {marker: table for table, marker in TABLES.items()}
    for path in TESTS.rglob("test_*.py"):
        for node in ast.walk(tree(path)):
            match node:
                case ast.Call(func=ast.Attribute(attr=name), args=[ast.Constant(value=value)]):
                    if name in tables:
                        found.add((tables[name], str(value).removeprefix("M")))
                case ast.Tuple(elts=[ast.Constant(value=str(value)), *_]):
                    if row := re.match(r"M(\d\d)(?: |$)", value):
                        found.add(("M", row[1]))
                case ast.Tuple(
                    elts=[ast.JoinedStr(values=[ast.Constant(value=str(value)), *_]), *_]
                ):
                    if row := re.match(r"M(\d\d) ", value):
                        found.add(("M", row[1]))
    return frozenset(found)


def test_page_has_every_row() -> None:
    found = {table: [number for t, number, _ in ROWS if t == table] for table in TABLES}

    assert found["T"] == [str(number) for number in NUMBERS["T"]]
    assert found["P"] == [str(number) for number in NUMBERS["P"]]
    assert found["M"] == MALFORMED.split()


@pytest.mark.parametrize(("table", "number", "cell"), ROWS, ids=[t + n for t, n, _ in ROWS])
def test_row_has_a_test_or_a_reason(table: str, number: str, cell: str) -> None:
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", cell)

    assert named or REASON.search(cell) or (table, number) in markers()
    for file, function in named:
        assert function in functions(TESTS / file), f"{file} has no {function}"


def test_every_marker_belongs_to_a_row() -> None:
    assert markers() <= {(table, number) for table, number, _ in ROWS}
