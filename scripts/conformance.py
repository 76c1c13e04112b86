"""Public suites against our HTTP API; see scripts/conformance."""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from conformances import clients, comply, evaluators, protocol
from conformances.server import Server, ServerError, serve
from conformances.suite import BrokenSuiteError, Suite
from conformances.table import HEADER, Verdict, judge, read_expected

SUITES = (*comply.SUITES, *clients.SUITES, *evaluators.SUITES, *protocol.SUITES)


def main() -> int:
    options = _parser().parse_args()
    suites = [suite for suite in SUITES if not options.fast or suite.is_fast]
    if options.suites:
        suites = [suite for suite in suites if suite.name in options.suites]
    try:
        for suite in suites:
            suite.environment.install()
    except (subprocess.SubprocessError, OSError) as error:
        print(f"conformance: {error}", file=sys.stderr)
        return 2
    if options.install:
        return 0
    try:
        with (
            tempfile.TemporaryDirectory(prefix="conformance-") as folder,
            serve(Path(folder), is_real=options.real) as server,
        ):
            print(HEADER, flush=True)
            verdicts = [_run(suite, server, Path(folder), is_real=options.real) for suite in suites]
    except ServerError as error:
        print(f"conformance: {error}", file=sys.stderr)
        return 2
    return int(not all(verdict.is_good for verdict in verdicts))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scripts/conformance")
    names = [suite.name for suite in SUITES]
    parser.add_argument(
        "suites", nargs="*", metavar="SUITE", choices=[*names, []], help=", ".join(names)
    )
    parser.add_argument("--real", action="store_true", help="the demo models, not a simulated one")
    parser.add_argument("--fast", action="store_true", help="the subset for CI")
    parser.add_argument("--install", action="store_true", help="install the suites and stop")
    return parser


def _run(suite: Suite, server: Server, folder: Path, *, is_real: bool) -> Verdict:
    """Run a suite and print its row, and below it what is new."""
    place = folder / suite.name.replace(" ", "-")
    place.mkdir()
    began = time.monotonic()
    try:
        cases = suite.run(server, place)
    except BrokenSuiteError as error:
        cases = {"the suite runs to its end": f"{error}"}
    seconds = time.monotonic() - began
    verdict = judge(suite.name, cases, read_expected(suite.name, is_real=is_real), seconds)
    print(verdict)
    for name, why in verdict.failed.items():
        print(f"  fails   {name}: {why}")
    for name in verdict.stale:
        print(f"  mended  {name}: passes, or is gone; take it out of expected.toml")
    sys.stdout.flush()
    return verdict


if __name__ == "__main__":
    sys.exit(main())
