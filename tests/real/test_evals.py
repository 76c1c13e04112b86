"""``localfusion eval`` on real engines of its own, as the README shows it, with fewer samples."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from localfusion.config import cache_dir
from tests.real.conftest import ROOT

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(900)]


def test_panel_is_evaluated_and_its_recordings_judged_again(tmp_path: Path) -> None:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("LOCALFUSION")}
    env = {**kept, "LOCALFUSION_CACHE": str(cache_dir()), "LOCALFUSION_STATE": str(tmp_path)}

    def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "localfusion", "eval", *arguments, "--out", str(tmp_path)],
            env=env, cwd=ROOT, capture_output=True, text=True, timeout=800, check=False,
        )  # fmt: skip

    first = run("run", "small", "--preset", "demo", "--limit", "3", "--live", "1", "--arms", "vote")
    (folder,) = [path for path in tmp_path.iterdir() if (path / "plan.json").exists()]
    told = json.loads((folder / "report.json").read_text())

    assert first.returncode == 0, first.stderr
    assert first.stdout.startswith("On these 3 tasks")
    assert told["calls"]["panel"] == 9
    assert told["identity"]["engines"]["smollm2-135m"].endswith("0.32.0")
    assert {arm["name"]: arm["n"] for arm in told["arms"]}["fuse"] == 3
    assert next(a for a in told["arms"] if a["name"] == "fuse")["live"]["engine_seconds"] > 0
