"""Numbered SQL files, applied in order; ``user_version`` is the number of the last one."""

import sqlite3
from collections.abc import Iterator, Mapping
from importlib.resources import files
from pathlib import Path

from localfusion.traces.rows import transaction

FOLDER = files("localfusion.traces") / "migrations"


LATEST = 3
"""Number of the newest one."""


def shipped() -> dict[int, str]:
    """Return the migrations of this version by number."""
    return {
        number: (FOLDER / f"{number:04}.sql").read_text("utf-8") for number in range(1, LATEST + 1)
    }


def migrate(
    connection: sqlite3.Connection, file: Path, migrations: Mapping[int, str] | None = None
) -> None:
    """Bring the database to the latest version, each step whole or not at all.

    Before a database with content is changed, a copy is written beside it: ``FILE.before-N``. It
    goes away when traces are purged.

    Args:
        connection: May write.
        file: The database.
        migrations: By number; None: those of this version.

    Raises:
        sqlite3.Error: a step failed; the database is what it was before that step.
    """
    [(found,)] = connection.execute("PRAGMA user_version")
    due = {n: sql for n, sql in (migrations or shipped()).items() if n > found}
    [(tables,)] = connection.execute("SELECT count(*) FROM sqlite_schema")
    if due and tables:
        copy = copy_of(file, min(due))
        copy.unlink(missing_ok=True)  # of an attempt that failed
        connection.execute("VACUUM INTO ?", [str(copy)])
        copy.chmod(0o600)
    for number, sql in due.items():
        with transaction(connection):
            for statement in _statements(sql):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version={number}")


def copy_of(file: Path, number: int) -> Path:
    """Return where the database is kept as it was before a migration."""
    return file.with_name(f"{file.name}.before-{number}")


def copies_of(file: Path) -> list[Path]:
    """Return all that is kept of earlier versions."""
    return sorted(file.parent.glob(f"{file.name}.before-*"))


def _statements(sql: str) -> Iterator[str]:
    """Yield a script's statements: ``executescript`` would end the transaction."""
    statement = ""
    for part in sql.split(";")[:-1]:
        statement += f"{part};"
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
