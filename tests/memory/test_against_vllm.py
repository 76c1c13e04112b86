"""The planner's arithmetic against vLLM's own code, for twenty architectures and no weights."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from localfusion import memory
from localfusion.shape import read_architecture
from tests.memory.configs import CONFIGS

POOL = 8 << 30
TOKENS = 4096
Found = dict[str, dict[str, float]]


@pytest.fixture(scope="module")
def vllm_says(tmp_path_factory: pytest.TempPathFactory) -> Found:
    """Ask vLLM once for all of them, in a process of its own."""
    cache = str(tmp_path_factory.mktemp("vllm"))
    offline = {"HF_HUB_OFFLINE": "1", "VLLM_PLUGINS": "", "VLLM_CACHE_ROOT": cache}
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("ask_vllm.py"))],
        input=json.dumps({"configs": CONFIGS, "pool_bytes": POOL}),
        env={**os.environ, **offline, "VLLM_LOGGING_LEVEL": "ERROR"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found: Found = json.loads(done.stdout)
    return found


@pytest.mark.vllm
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", CONFIGS)
def test_planner_agrees_with_vllm(vllm_says: Found, name: str) -> None:
    says, shape = vllm_says[name], read_architecture(CONFIGS[name])
    assert shape.parameters == pytest.approx(says["parameters"], rel=0.005)
    assert memory.kv_bytes_per_token(shape) == says["bytes_per_token"]

    # The pool that we would plan for as many whole requests as vLLM fits into its own.
    requests = int(says["requests"])
    planned = memory.kv_pool_bytes(
        shape,
        tokens=TOKENS,
        requests=requests,
        block=32,
        batch_tokens=2048,
        batches=1,
        wide_states=bool(says["wide_states"]),
    )
    assert planned / requests == pytest.approx(POOL / says["requests"], rel=0.005)
