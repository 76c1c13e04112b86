"""Code that passes tests, run in the product's sandbox: no network, no files, limits."""

from collections.abc import Sequence
from dataclasses import dataclass

from localfusion.checks.code import check_code
from localfusion.checks.extract import Tests, code_in
from localfusion.evals.samples import Sample, Score, digest_of
from localfusion.types import Check

VERSION = 1


@dataclass(frozen=True, slots=True)
class CodeScorer:
    """Gold: ``cases``, statements that must hold; ``setup`` before them; ``entry``, the function.

    ``prompt`` may hold code that an answer continues, as HumanEval's functions do.
    """

    @property
    def identity(self) -> str:
        return digest_of(["code", VERSION])

    async def score(self, sample: Sample, text: str) -> Score:
        gold = sample.gold
        answer = _whole(text, str(gold.get("prompt", "")), str(gold.get("entry", "")))
        cases = gold["cases"]
        tests = Tests(
            tuple(map(str, cases)) if isinstance(cases, Sequence) else (),
            entry=str(gold["entry"]) if gold.get("entry") else None,
            setup=str(gold.get("setup", "")),
            keep=("check",) if "def check" in str(gold.get("setup", "")) else (),
        )
        program = code_in(answer)
        check = await check_code(answer, tests)
        if program is None:
            return Score(0.0, detail="the answer has no Python code")
        is_passed = has_passed(check)
        if is_passed is None:
            return Score(None, extracted=program, detail=f"unscored: {check.detail}")
        return Score(float(is_passed), extracted=program, detail=check.detail)


def has_passed(check: Check) -> bool | None:
    """Tell whether code passed its tests; None: nothing here could run it, whatever it is."""
    if check.outcome == "unavailable" and not check.detail.startswith("the answer"):
        return None
    return check.outcome == "passed"


def _whole(text: str, prompt: str, entry: str) -> str:
    """Return an answer's program; one that continues a given head is put behind it."""
    program = code_in(text)
    if not prompt or program is None or not entry or f"def {entry}" in program:
        if program is None and prompt and text.startswith((" ", "\t")):
            return f"```python\n{prompt}{text}\n```"
        return text
    return f"```python\n{prompt}\n{program}\n```"
