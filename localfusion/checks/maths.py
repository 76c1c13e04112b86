"""Checks the mathematics of an answer: does its arithmetic again, compares values, tries solutions.

Plain numbers are exact arithmetic in this process; the rest is sympy's, in the sandbox.
"""

import asyncio
import json
import re
import time
from collections.abc import Sequence
from fractions import Fraction

from localfusion.checks import values
from localfusion.checks.arithmetic import NotArithmeticError, evaluate, plain
from localfusion.checks.sandbox import Limits, SandboxError, run
from localfusion.checks.statements import statements_in
from localfusion.types import Check, CheckOutcome

_PROGRAM = "from localfusion.checks import algebra\nalgebra.main()\n"
_PACKAGES = ("sympy", "mpmath", "localfusion.checks.algebra")
_LIMITS = Limits(cpu_seconds=5, wall_seconds=20.0)
_MOST_TEXT = 100_000
_ASKS = re.compile(
    r"^\W*(?:please\s+)?(?:what(?:\s+is|'s)|how\s+much\s+is|compute|calculate|evaluate|simplify|"
    r"solve(?:\s+for\s+[a-z])?|find(?:\s+[a-z]\s+(?:if|such\s+that))?|determine|work\s+out)\b"
    r"(?:\s+(?:the\s+)?(?:value\s+of|equation|expression|following|result\s+of))*\s*:?\s*",
    re.IGNORECASE,
)
_ASKS_END = re.compile(
    r"(?:,?\s*(?:for\s+[a-z]|and\s+(?:explain|show)\b.*))?\s*[?.!]?\s*"
    r"(?:(?:give|show|explain|answer|think|reply|put|write)\b.*)?$",
    re.IGNORECASE | re.DOTALL,
)
_SAYS = re.compile(r"answer\W{1,6}(?:is\b|:|=)?\W{0,4}(.{1,200})", re.IGNORECASE)
# Far apart and odd, so that nothing but a straight line goes through all of its own values there.
_PROBES = tuple(map(Fraction, (-211, -7, 2, 31, 103, 1009)))


async def equal(a: str, b: str) -> bool | None:
    """Tell whether two short answers are mathematically equal; None where that is undecided.

    They may be plain or LaTeX: numbers with separators, percent and units, fractions, roots,
    expressions, equations, sets, tuples, intervals. A unit or a percent sign that only one of them
    has does not make them differ; one decimal makes 1e-6 (relative) close enough. None, too, where
    it takes sympy and this host cannot confine it.
    """
    if max(len(a), len(b)) > values.MAX_CHARACTERS:
        return None
    are_equations = "=" in a and "=" in b and a.partition("=")[0] != b.partition("=")[0]
    first, second = (values.read(one, is_equation=are_equations) for one in (a, b))
    wanted = dict.fromkeys(values.pairs(first, second))
    known = {pair: values.compare(*pair) for pair in wanted}
    open_pairs = [
        pair for pair in wanted if known[pair] is None and all(map(values.is_algebra, pair))
    ]
    if open_pairs:
        told = await _ask([("equal", *pair) for pair in open_pairs])
        for pair, result in zip(open_pairs, told, strict=True):
            known[pair] = result if isinstance(result, bool) else None
    return values.match(first, second, known)


async def check_maths(question: str, answer: str) -> Check:
    """Do an answer's arithmetic again, and try its result where the question is a bare one.

    ``failed`` names what is wrong; ``passed`` if at least one thing was checked and all was right;
    ``unavailable`` if there is nothing that can be checked.
    """
    started = time.monotonic()
    text = answer[:_MOST_TEXT]
    statements = await asyncio.to_thread(statements_in, text)
    wrong = [
        f"{one.text} is wrong: {one.correction}" for one in statements if one.verdict == "wrong"
    ]
    right = sum(one.verdict == "right" for one in statements)
    final = None if wrong else await _check_final(question, text)
    if final is not None:
        is_right, words = final
        wrong += [] if is_right else [words]
        right += is_right
    outcome: CheckOutcome
    if wrong:
        outcome, detail = "failed", "; ".join(wrong[:3])
    elif right:
        outcome, detail = "passed", f"{right} statements are right"
    else:
        outcome, detail = "unavailable", "the answer states no arithmetic that can be checked"
    return Check("maths", outcome, detail, time.monotonic() - started)


def final_answer(answer: str) -> str | None:
    r"""Return what an answer gives as its result: ``\boxed``, "answer is …", or its last line."""
    start = answer.rfind("\\boxed{")
    if start >= 0:
        inner, depth = start + len("\\boxed{"), 1
        for end in range(inner, len(answer)):
            depth += (answer[end] == "{") - (answer[end] == "}")
            if depth == 0:
                return answer[inner:end].strip()
    said = _SAYS.findall(answer)
    lines = [line.strip() for line in answer.splitlines() if line.strip()]
    text = said[-1] if said else (lines[-1] if lines else "")
    text = re.sub(r"[*`$]|^#+\s*|\\[()\[\]]", "", text).strip().rstrip(".").strip()
    if not said and re.search(r"[A-Za-z]{4,}", text):
        return None
    return text or None


async def _check_final(question: str, answer: str) -> tuple[bool, str] | None:
    asked = _bare(question)
    final = final_answer(answer) if asked is not None else None
    if asked is None or final is None:
        return None
    if "=" in asked:
        return await _try_solutions(asked, final)
    if "=" in final:
        final = final.rpartition("=")[2].strip()
    is_same = await equal(asked, final)
    if is_same is None:
        return None
    return is_same, f"{asked} is not {final}"


def _bare(question: str) -> str | None:
    """Return the expression or equation that is all that a question asks, in plain text."""
    if len(question) > 400:
        return None
    text = _ASKS_END.sub("", _ASKS.sub("", question.strip(), count=1), count=1)
    text = plain(re.sub(r"(?<!\\)\$|`|\*\*(?=[A-Za-z])", "", text)).strip()
    text = re.sub(r"(?<=\d)\s*x\s*(?=\d)", "*", text)
    text = re.sub(r"(\d)\s*%\s+of\s+(?=[\d(])", r"\1/100*", text)
    has_work = re.search(r"[-+*/^=]|sqrt|log|sin|cos|tan", text[1:]) is not None
    if not has_work or text.count("=") > 1 or not values.is_algebra(text):
        return None
    return text if "=" not in text or len(_letters(text)) == 1 else None


def _letters(text: str) -> set[str]:
    return set(re.findall(r"(?<![A-Za-z])[A-Za-z](?![A-Za-z])", text)) - {"e", "i"}


async def _try_solutions(equation: str, final: str) -> tuple[bool, str] | None:
    """Put each solution that an answer gives into the equation."""
    letter = _letters(equation).pop()
    found = values.read(final)
    leaves = [one.text for one in (found.parts or (found,)) if one.kind == "leaf"]
    if not leaves or not all(map(values.is_algebra, leaves)) or any(map(_letters, leaves)):
        return None
    numbers = [values.number(leaf) for leaf in leaves]
    for leaf, number in zip(leaves, numbers, strict=True):
        rest = None if number is None else _rest(equation, letter, number)
        if rest is not None and rest != 0 and "." not in leaf:
            return False, f"{letter} = {leaf} does not solve {equation}"
        if rest == 0 and _is_linear(equation, letter):
            return True, ""
    (told,) = await _ask([("solves", equation, letter, leaves)])
    if not isinstance(told, dict):
        return None
    for leaf, is_solved in zip(leaves, told["solved"], strict=True):
        if not is_solved:
            return False, f"{letter} = {leaf} does not solve {equation}"
    return (True, "") if told["complete"] else None


def _rest(equation: str, letter: str, number: Fraction) -> Fraction | None:
    left, _, right = equation.partition("=")
    try:
        return evaluate(left, {letter: number}) - evaluate(right, {letter: number})
    except NotArithmeticError:
        return None


def _is_linear(equation: str, letter: str) -> bool:
    rests = [_rest(equation, letter, probe) for probe in _PROBES]
    known = [rest for rest in rests if rest is not None]
    if len(known) < len(_PROBES):
        return False
    slope = (known[1] - known[0]) / (_PROBES[1] - _PROBES[0])
    expected = [known[0] + slope * (probe - _PROBES[0]) for probe in _PROBES]
    return slope != 0 and known == expected


async def _ask(tasks: Sequence[Sequence[object]]) -> list[object]:
    """Have sympy decide, in the sandbox; None for what it could not, or not in time."""
    data = json.dumps(tasks).encode()
    try:
        outcome = await run(_PROGRAM, limits=_LIMITS, stdin=data, packages=_PACKAGES)
    except SandboxError:
        return [None] * len(tasks)
    told: list[object] = []
    for line in outcome.output.decode(errors="replace").splitlines():
        try:
            told.append(json.loads(line))
        except ValueError:
            break  # a traceback, say: what follows is no result
    return [*told, *[None] * len(tasks)][: len(tasks)]
