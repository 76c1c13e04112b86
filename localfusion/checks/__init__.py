"""Runs what models write, to see whether it is right: code against tests, arithmetic done again."""

from localfusion.checks.code import Group, behaviors, check_code
from localfusion.checks.extract import Tests, code_in, tests_in
from localfusion.checks.inputs import inputs_for
from localfusion.checks.maths import check_maths, equal
from localfusion.checks.sandbox import (
    Limits,
    Outcome,
    SandboxError,
    run,
    why_unavailable,
)

__all__ = [
    "Group",
    "Limits",
    "Outcome",
    "SandboxError",
    "Tests",
    "behaviors",
    "check_code",
    "check_maths",
    "code_in",
    "equal",
    "inputs_for",
    "run",
    "tests_in",
    "why_unavailable",
]
