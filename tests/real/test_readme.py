"""The README's code blocks do what they say, against a running server."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from localfusion.config import load
from tests.real.conftest import ROOT, Server

BLOCK = re.compile(r"^```(sh|python|yaml)\n(.*?)^```", re.MULTILINE | re.DOTALL)
BLOCKS = BLOCK.findall((ROOT / "README.md").read_text())


def blocks(language: str) -> list[str]:
    return [text for kind, text in BLOCKS if kind == language]


def commands() -> list[str]:
    """Return the shell commands one by one; what is continued in quotes stays together."""
    lines = "".join(re.sub(r"\s+# .*", "", text) for text in blocks("sh"))
    return re.findall(r"^(?:[^'\n]|'[^']*')+$", lines, re.MULTILINE)


def test_every_script_that_is_named_exists() -> None:
    named = {line.split()[0] for line in commands() if line.startswith("scripts/")}

    assert named == {"scripts/demo", "scripts/test"}
    assert all(os.access(ROOT / name, os.X_OK) for name in named)


def test_models_yaml_of_the_readme_is_valid(tmp_path: Path) -> None:
    file = tmp_path / "models.yaml"
    (text,) = blocks("yaml")
    file.write_text(text)

    assert list(load(file).settings.presets) == ["mine"]
    assert len(text.splitlines()) <= 25


@pytest.mark.vllm
@pytest.mark.timeout(900)
@pytest.mark.parametrize("command", [c for c in commands() if c.startswith(("curl", "local"))])
def test_command(server: Server, command: str) -> None:
    if command == "localfusion serve":
        return  # that is what the fixture runs
    if command.startswith("localfusion eval run"):
        return  # test_evals.py does, with fewer samples
    command = command.replace(":8000", f":{server.port}")
    if command.split()[1] in ("ask", "ps", "load", "unload", "reload"):
        command += f" --port {server.port}"
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"

    done = subprocess.run(
        ["bash", "-c", command],
        cwd=ROOT,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=800,
        check=False,
    )

    if command == "localfusion doctor":
        # The server's engines hold the memory that another start would need: it may say so.
        problems = [line for line in done.stdout.splitlines() if line.startswith("problem")]
        assert [line for line in problems if not line.startswith("problem memory")] == []
        assert done.returncode == bool(problems)
    else:
        assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    assert '"error":{' not in done.stdout


@pytest.mark.vllm
@pytest.mark.timeout(900)
@pytest.mark.parametrize("text", blocks("python"))
def test_python(server: Server, text: str) -> None:
    text = text.replace(":8000", f":{server.port}")

    done = subprocess.run(
        [sys.executable, "-c", text], capture_output=True, text=True, timeout=800, check=False
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
