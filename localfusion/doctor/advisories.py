"""Which versions of vLLM may serve, and why older ones may not."""

import re

FLOOR = "0.32.0"
"""The oldest that has every fix below; pyproject.toml asks for it too."""
CEILING = "0.34"
"""The first that nobody has tried; pyproject.toml excludes it too."""

FIXES = (
    (
        "0.32.0",
        "CVE-2026-115911, PYSEC-2026-4349: chat templates without time limit or trust check",
    ),
    ("0.30.0", "CVE-2026-105757: a structured-output request kills the engine"),
    ("0.24.0", "PYSEC-2026-2303, -2304, -4350: requests that crash it or keep it busy"),
    ("0.22.0", "CVE-2026-48746, -41523: API key bypass, code execution under python -O"),
    ("0.19.0", "CVE-2026-34756: a huge n"),
    ("0.18.0", "CVE-2026-27893: code that comes with a model is trusted"),
    ("0.14.0", "CVE-2026-22807: code that auto_map names is run"),
    ("0.13.0", "CVE-2026-56340: prompt embeddings"),
)
"""Fixed in which version, and what; newest first. Sources: vLLM's GitHub advisories, PyPA's."""

Release = tuple[int, int, int, int]


def release(version: str) -> Release:
    """Read a version for comparing; a pre-release comes before its release.

    Raises:
        ValueError: it does not begin with a number.
    """
    match = re.match(r"(\d+)(?:\.(\d+))?(?:\.(\d+))?(.*)", version)
    if match is None:
        raise ValueError(f"{version!r} is no version")
    is_early = re.match(r"[.-]?(a|b|rc|dev)", match[4]) is not None
    return int(match[1]), int(match[2] or 0), int(match[3] or 0), 0 if is_early else 1


def missing_fixes(version: str) -> list[str]:
    """Return what a version is still open to, newest first."""
    return [what for fixed_in, what in FIXES if release(version) < release(fixed_in)]
