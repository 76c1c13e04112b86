"""The fast ones of the public suites, installed and run as scripts/conformance does."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent.parent / "scripts" / "conformance.py"


@pytest.mark.timeout(600)
def test_public_suites_find_nothing_new() -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--fast"],
        capture_output=True,
        text=True,
        timeout=580,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "openai-python chat" in done.stdout
