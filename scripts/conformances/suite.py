"""What a suite is, how it is run, and how its cases are read."""

import os
import shutil
import signal
import subprocess
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from conformances.environment import Environment
from conformances.server import CLIENTS, ROOT, Server

Cases = Mapping[str, str | None]
"""Why each case failed, None where it passed; skipped ones are absent."""

RUN_SECONDS = 900
JUNIT = "report.xml"
MODEL: Literal["fusion"] = "fusion"
KEY = "lf-test"

_BLOCKED = ("http_proxy", "https_proxy", "all_proxy", "virtual_env", "pythonpath")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a suite runs.

    Attributes:
        folder: Empty but for the suite's own files; the working directory.
        model: The preset or model that it asks for.
    """

    server: Server
    environment: Environment
    folder: Path
    model: str

    @property
    def base(self) -> str:
        """The address that clients of OpenAI are given."""
        return f"{self.server.url}/v1"


@dataclass(frozen=True, slots=True)
class Finished:
    """What a suite left behind: its output and its files."""

    place: Place
    output: str

    def tail(self) -> str:
        return "\n".join(self.output.splitlines()[-15:])


class BrokenSuiteError(Exception):
    """A suite told no results; its output."""


def read_junit(finished: Finished) -> Cases:
    """Read the report that pytest, node and schemathesis write."""
    file = finished.place.folder / JUNIT
    if not file.exists():
        raise BrokenSuiteError(finished.tail())
    cases: dict[str, str | None] = {}
    for case in ElementTree.parse(file).iter("testcase"):
        if case.find("skipped") is not None:
            continue
        group = case.get("classname", "").rpartition(".")[2]
        name = case.get("name", "")
        failures = [*case.iter("failure"), *case.iter("error")]
        why = "; ".join(_reason(failure) for failure in failures) or None
        cases[name if group in ("", "test") else f"{group}::{name}"] = why
    return cases


def _reason(failure: ElementTree.Element) -> str:
    text = failure.get("message") or failure.text or "failed"
    return " ".join(text.split())[:300]


@dataclass(frozen=True, slots=True)
class Suite:
    """A suite.

    Attributes:
        command: Its command line.
        read: Finds the cases in what it left.
        files: Of tests/conformance, copied to its working directory.
        variables: Of its environment, besides ours.
        model: The preset or model that it asks for; on real engines a model is another one.
        route: It asks for nothing else; if there is no such route, that is its one failed case.
        is_fast: Part of ``--fast``.
    """

    name: str
    environment: Environment
    command: Callable[[Place], Sequence[str]]
    read: Callable[[Finished], Cases] = read_junit
    files: tuple[str, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
    model: Literal["fusion", "plain"] = MODEL
    route: str = "/v1/chat/completions"
    is_fast: bool = False

    def run(self, server: Server, folder: Path) -> Cases:
        """Run it in an empty folder and return its cases.

        Raises:
            BrokenSuiteError: it told no results.
        """
        if server.status(self.route, is_post=True) == 404:
            return {f"POST {self.route} is there": "404"}
        for file in self.files:
            source = CLIENTS / file
            copy = shutil.copytree if source.is_dir() else shutil.copy
            copy(source, folder / file)
        if self.environment.kind == "node":
            (folder / "node_modules").symlink_to(self.environment.modules)
        place = Place(server, self.environment, folder, self.model)
        finished = Finished(place, self._run(place))
        server.check()
        return self.read(finished)

    def _run(self, place: Place) -> str:
        variables = {
            name: value for name, value in os.environ.items() if name.lower() not in _BLOCKED
        }
        variables |= {
            "OPENAI_BASE_URL": place.base,
            "OPENAI_API_KEY": KEY,
            "CONFORMANCE_README": str(ROOT / "README.md"),
            "CONFORMANCE_URL": place.server.url,
            "CONFORMANCE_MODEL": place.model,
            "NO_COLOR": "1",
            **self.variables,
        }
        # A session of its own, so that what it has started ends with it.
        process = subprocess.Popen(
            self.command(place),
            cwd=place.folder,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        try:
            output, _ = process.communicate(timeout=RUN_SECONDS)
        except subprocess.TimeoutExpired:
            raise BrokenSuiteError(f"not finished after {RUN_SECONDS} s") from None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        (place.folder / "output.txt").write_text(output)
        return output


def pytest(place: Place, *arguments: str) -> Sequence[str]:
    """Return the command line of pytest with a report, free of our own configuration."""
    options = ("-q", "-p", "no:cacheprovider", f"--junitxml={place.folder / JUNIT}")
    return (place.environment.python, "-m", "pytest", *options, *arguments)


def node_test(place: Place, file: str) -> Sequence[str]:
    """Return the command line of node's test runner with a report."""
    reporter = ("--test-reporter=junit", f"--test-reporter-destination={JUNIT}")
    return ("node", "--test", *reporter, file)
