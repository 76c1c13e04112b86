"""Checks of a run's candidates: which ones the question allows, and what they say.

The only part of fusion that runs something: each program in a sandbox of its own (``checks``).
"""

import asyncio
from collections.abc import Sequence

from localfusion import checks
from localfusion.types import Candidate, Check

AT_ONCE = 2
"""Sandboxes of one run that work at the same time."""


async def check_all(question: str, candidates: Sequence[Candidate]) -> tuple[Check, ...]:
    """Run candidates' code against the tests in the question, else do their arithmetic again."""
    tests = checks.tests_in(question)
    room = asyncio.Semaphore(AT_ONCE)

    async def check(candidate: Candidate) -> Check:
        async with room:
            if tests is not None:
                return await checks.check_code(candidate.text, tests)
            return await checks.check_maths(question, candidate.text)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(check(candidate)) for candidate in candidates]
    return tuple(task.result() for task in tasks)


async def alike(question: str, candidates: Sequence[Candidate]) -> tuple[Candidate, ...]:
    """Return the largest group whose code does the same on the same inputs; empty where none is.

    A group of one, or one that only crashes, says nothing.

    Source: minimum Bayes risk over executions, arXiv 2204.11454.
    """
    codes = (checks.code_in(candidate.text) for candidate in candidates)
    inputs = next((i for code in codes if code and (i := checks.inputs_for(code, question))), ())
    if not inputs:
        return ()
    try:
        groups = await checks.behaviors([candidate.text for candidate in candidates], inputs)
    except checks.SandboxError:
        return ()  # without a sandbox nothing is known of what they do
    for group in groups:
        if len(group.indices) > 1 and group.crashes < len(inputs):
            return tuple(candidates[place] for place in group.indices)
    return ()
