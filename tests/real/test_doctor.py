"""``localfusion doctor`` on the interpreter and the vLLM that the demo uses."""

import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.vllm


def test_installed_vllm_is_found_whole() -> None:
    command = [sys.executable, "-m", "localfusion", "doctor", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    found = {finding["check"]: finding for finding in json.loads(done.stdout)}

    for check in ("python", "vllm", "torch", "libraries", "import vllm"):
        assert found[check]["verdict"] == "ok", found[check]
