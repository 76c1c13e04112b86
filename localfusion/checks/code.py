"""Tests an answer's code against the request's tests, and tells which answers behave alike."""

import asyncio
import json
import os
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from localfusion.checks.extract import Tests, code_in
from localfusion.checks.sandbox import Limits, Outcome, SandboxError, run
from localfusion.types import Check, CheckOutcome

_PROGRAM = "from localfusion.checks import harness\nharness.main()\n"
_MODULES = ("localfusion.checks.harness", "localfusion.checks.remote")
TEST_LIMITS = Limits()
_BEHAVIOR_LIMITS = Limits(cpu_seconds=3, wall_seconds=12.0)
_NOT_REACHED = "not reached"


@dataclass(frozen=True, slots=True)
class Group:
    """Answers whose code does the same.

    Attributes:
        indices: Of the answers, ascending.
        outcomes: What the code did with each input: its value, ``raises …``, or how it ended.
        crashes: How many of these are no value.
    """

    indices: tuple[int, ...]
    outcomes: tuple[str, ...]
    crashes: int


@dataclass(frozen=True, slots=True)
class _Result:
    """Of one case; ``case`` is -1 for what came before all."""

    case: int
    outcome: CheckOutcome
    detail: str


async def check_code(answer: str, tests: Tests, *, limits: Limits = TEST_LIMITS) -> Check:
    """Run an answer's code against tests, in the sandbox.

    ``passed`` only if every test was run and passed; ``failed`` if one showed the code wrong, and
    then the detail says which and how; ``error`` if the tests could not decide; ``unavailable`` if
    there is no code, no test, no sandbox, or a package that the sandbox does not have.
    """
    started = time.monotonic()
    outcome, detail = await _check(answer, tests, limits)
    return Check("tests", outcome, detail, time.monotonic() - started)


async def behaviors(
    answers: Sequence[str], inputs: Sequence[str], *, entry: str | None = None
) -> tuple[Group, ...]:
    """Run each answer's function on the same inputs; group the answers by what came out.

    Args:
        answers: Whole answers; those without code are in no group.
        inputs: Argument lists as Python source, such as ``inputs_for`` gives.
        entry: The function's name; None: each answer's only one.

    Returns:
        Those that crash on every input last; of the others the largest group first, of equals the
        one with fewer crashes, then the earlier.

    Raises:
        SandboxError: This host cannot confine a program.
    """
    programs = {index: code_in(answer) for index, answer in enumerate(answers)}
    room = asyncio.Semaphore(os.cpu_count() or 1)

    async def behave(program: str) -> tuple[str, ...]:
        async with room:
            return await _behavior(program, inputs, entry)

    try:
        async with asyncio.TaskGroup() as tasks:
            running = {
                index: tasks.create_task(behave(program))
                for index, program in programs.items()
                if program is not None
            }
    except* SandboxError as errors:
        raise errors.exceptions[0] from None
    alike: dict[tuple[str, ...], list[int]] = {}
    for index, task in running.items():
        alike.setdefault(task.result(), []).append(index)
    groups = [
        Group(tuple(indices), outcomes, sum(map(_is_crash, outcomes)))
        for outcomes, indices in alike.items()
    ]

    def rank(group: Group) -> tuple[bool, int, int, tuple[int, ...]]:
        is_useless = group.crashes == len(inputs)
        return is_useless, -len(group.indices), group.crashes, group.indices

    return tuple(sorted(groups, key=rank))


async def _check(answer: str, tests: Tests, limits: Limits) -> tuple[CheckOutcome, str]:
    program = code_in(answer)
    if program is None:
        return "unavailable", "the answer has no Python code"
    if not tests.cases:
        return "unavailable", "there are no tests"
    job = {
        "program": program,
        "cases": tests.cases,
        "setup": tests.setup,
        "entry": tests.entry,
        "keep": tests.keep,
        "calls": False,
    }
    try:
        results, outcome = await _run(job, limits)
    except SandboxError as error:
        return "unavailable", str(error)
    return _sum_up(tests.cases, results, outcome)


def _sum_up(
    cases: Sequence[str], results: Sequence[_Result], outcome: Outcome
) -> tuple[CheckOutcome, str]:
    for wanted in ("failed", "unavailable", "error"):
        for result in results:
            if result.outcome == wanted:
                return result.outcome, _name(cases, result)
    if [result.case for result in results] == list(range(len(cases))):
        return "passed", f"{len(cases)} of {len(cases)} tests passed"
    number = len(results)
    shown = (
        f"test {number + 1} of {len(cases)}, {_shorten(cases[number])}" if cases[number:] else ""
    )
    match outcome.ended:
        case "time" if outcome.code is None:  # of wall time: it slept, or the machine is busy
            return "error", f"did not end in time: {shown}"
        case "finished":
            return (
                "error",
                f"the tests broke off: {_shorten(outcome.output.decode('utf-8', 'replace'))}",
            )
    return "failed", f"the program ended the tests ({outcome.ended}): {shown}"


def _name(cases: Sequence[str], result: _Result) -> str:
    if result.case < 0:
        return result.detail
    test = _shorten(cases[result.case].splitlines()[-1 if ">>>" not in cases[result.case] else 0])
    return f"test {result.case + 1} of {len(cases)}, {test}: {result.detail}"


def _shorten(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 120 else f"{line[:120]}…"


async def _behavior(program: str, inputs: Sequence[str], entry: str | None) -> tuple[str, ...]:
    job = {
        "program": program,
        "cases": list(inputs),
        "setup": "",
        "entry": entry,
        "keep": [],
        "calls": True,
    }
    results, outcome = await _run(job, _BEHAVIOR_LIMITS)
    told = {result.case: result for result in results}
    if -1 in told:
        return (f"fails: {told[-1].detail}",) * len(inputs)
    last = f"ends: {outcome.ended}"
    found = []
    for number in range(len(inputs)):
        result = told.get(number)
        if result is None:
            found.append(last)
            last = _NOT_REACHED
        else:
            found.append(result.detail if result.outcome == "passed" else f"fails: {result.detail}")
            last = _NOT_REACHED if result.outcome == "failed" else last
    return tuple(found)


def _is_crash(outcome: str) -> bool:
    return outcome.startswith(("raises ", "fails: ", "ends: ")) or outcome == _NOT_REACHED


async def _run(job: Mapping[str, object], limits: Limits) -> tuple[list[_Result], Outcome]:
    """Run the harness and read what it told; lines without the nonce are not its own."""
    nonce = secrets.token_hex(16)
    data = json.dumps({**job, "nonce": nonce}).encode()
    outcome = await run(_PROGRAM, limits=limits, stdin=data, packages=_MODULES)
    results = []
    for line in outcome.output.decode(errors="replace").splitlines():
        mark, _, told = line.partition(" ")
        if mark == nonce:
            results.append(_Result(**json.loads(told)))
    return results, outcome
