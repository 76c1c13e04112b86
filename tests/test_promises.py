"""What the package as a whole promises: light, offline, nothing at import."""

import subprocess
import sys

import pytest

HEAVY = ("torch", "vllm", "transformers", "fastapi", "openai", "numpy")


@pytest.mark.parametrize("module", ["localfusion", "localfusion.cli", "localfusion.runtime"])
def test_nothing_heavy_is_imported(module: str) -> None:
    code = f"import sys, {module}; print([m for m in {HEAVY!r} if m in sys.modules])"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


def test_gateway_stays_small_while_it_serves() -> None:
    code = (
        "import psutil, localfusion.cli, localfusion.server.app, localfusion.server.serving; "
        "print(psutil.Process().memory_info().rss)"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert int(done.stdout) < 200e6
