"""Every policy on real engines, as people ask for it in a terminal; and what the judge reads."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from localfusion.config import load
from localfusion.fusion.judge.drafts import Drafts
from localfusion.fusion.prompts import nonce_of
from localfusion.types import Candidate, Message, SamplingParams
from localfusion.weights import resolve
from tests.real.conftest import ROOT, Server

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(900)]

QUESTION = "How many legs do 2 dogs have? Answer with the number alone."


def ask(server: Server, policy: str, *more: str, question: str = QUESTION) -> dict[str, object]:
    command = [sys.executable, "-m", "localfusion", "ask", "--port", str(server.port)]
    done = subprocess.run(
        [*command, "--preset", "demo", "--policy", policy, "--json", *more, question],
        cwd=ROOT, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert isinstance(answer, dict)
    assert answer["text"].strip()
    assert answer["policy"] == policy
    assert sum(step["seconds"] for step in answer["critical_path"]) == pytest.approx(
        answer["seconds"], abs=0.05
    )
    assert answer["cost"]["device_seconds"]["cpu"] > 0
    return answer


@pytest.mark.parametrize("policy", ["vote", "consensus"])
def test_policies_that_compare_answers(server: Server, policy: str) -> None:
    answer = ask(server, policy)

    assert len(answer["candidates"]) >= 3  # type: ignore[arg-type]  # a list


def test_select_takes_one_token_of_the_judge(server: Server) -> None:
    answer = ask(server, "select")

    stages = answer["stages"]
    assert stages["verdict"]["usage"]["completion_tokens"] == 1  # type: ignore[index]  # an object
    assert ("synthesis" in stages) == (answer["exit"] is None)  # type: ignore[operator]


def test_samples_of_self_fusion_read_the_prompt_once(server: Server) -> None:
    long = "Consider the following. " * 30 + QUESTION
    answer = ask(server, "self_fusion", question=long)

    candidates = answer["candidates"]
    assert [c["model"] for c in candidates] == ["qwen2.5-coder-0.5b"] * 4  # type: ignore[attr-defined]
    for candidate in candidates[1:]:  # type: ignore[index]
        usage = candidate["usage"]
        assert usage["cached_tokens"] >= (usage["prompt_tokens"] - 1) // 32 * 32


def test_terminal_shows_the_panel_and_what_was_waited_for(server: Server) -> None:
    command = [sys.executable, "-m", "localfusion", "ask", "--port", str(server.port)]
    done = subprocess.run(
        [*command, "--preset", "demo", "--policy", "fuse", "--show-panel", "--timing", QUESTION],
        cwd=ROOT, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    for seen in ("3/3", "answer of", "waited for: panel", "judge_prefill", "cpu-seconds"):
        assert seen in done.stderr


# What a tokenizer could do across a seam: join line breaks, brackets, spaces, digits, letters.
texts = st.text(alphabet=" \n[](){}<>|.,:;-*#ab1éß中", min_size=1, max_size=30)


@pytest.mark.parametrize("model", ["smollm2-135m", "qwen2.5-coder-0.5b"])
def test_tokens_of_a_prompt_begin_those_of_the_longer_one(model: str) -> None:
    """The property that the prefix cache needs, for the tokenizers of the demo models."""
    from tokenizers import Tokenizer

    path = Path(resolve(load(ROOT / "models.yaml"), model).path) / "tokenizer.json"
    tokenizer = Tokenizer.from_file(str(path))

    @settings(suppress_health_check=list(HealthCheck), deadline=None)
    @given(st.lists(texts, min_size=1, max_size=4), st.integers(0, 2**32 - 1))
    def check(drafts: list[str], nonce: int) -> None:
        whole = Drafts((Message("user", "How many?"),), nonce_of(nonce))
        shorter = tokenizer.encode(whole.messages()[-1].content).ids
        for index, text in enumerate(drafts):
            whole = whole.adding(whole.read(Candidate(index, "m", SamplingParams(), text)))
            longer = tokenizer.encode(whole.messages()[-1].content).ids
            assert longer[: len(shorter)] == shorter
            shorter = longer

    check()
