"""What doctor says of a place."""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from typer.testing import CliRunner

from localfusion.cli import app
from tests.cli.conftest import Place


@dataclass
class Report:
    """What doctor said.

    Attributes:
        code: Its exit code.
        lines: ``verdict``, ``text`` and ``remedy`` as one text, by check.
    """

    code: int
    lines: dict[str, str]

    @property
    def problems(self) -> dict[str, str]:
        return {check: line for check, line in self.lines.items() if line.startswith("problem")}


def examine(place: Place, *arguments: str) -> Report:
    """Run doctor here, which saves the second that a Python needs to start."""
    done = CliRunner().invoke(app, ["doctor", "--json", *arguments], env=place.env)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return read(done.exit_code, done.stdout, done.stderr)


def examine_apart(
    place: Place, *, env: Mapping[str, str] | None = None, prefix: Sequence[str] = ()
) -> Report:
    """Run doctor as a process of its own, with other limits, folders or drivers."""
    before = place.left_behind()
    done = subprocess.run(
        [*prefix, sys.executable, "-m", "localfusion", "doctor", "--json"],
        env={**place.env, **(env or {})},
        cwd=place.root,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert place.left_behind() == before
    return read(done.returncode, done.stdout, done.stderr)


def read(code: int, stdout: str, stderr: str) -> Report:
    """Read what it printed; whatever it finds has a remedy."""
    assert stderr == ""
    lines: dict[str, str] = {}
    for found in json.loads(stdout):
        assert (found["verdict"] == "ok") == (found["remedy"] == ""), found
        line = f"{found['verdict']}: {found['text']}; {found['remedy']}"
        lines[found["check"]] = "\n".join(filter(None, [lines.get(found["check"]), line]))
    return Report(code, lines)
