"""The command ``llm`` of the package llm, against an endpoint of OpenAI's kind."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BASE = os.environ["OPENAI_BASE_URL"]
MODEL = os.environ["CONFORMANCE_MODEL"]


@pytest.fixture(autouse=True)
def _home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LLM_USER_PATH", str(tmp_path))


def llm(*words: str, text: str = "") -> str:
    command = [str(Path(sys.executable).parent / "llm"), *words]
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_prompt() -> None:
    assert llm("openai", "endpoint", BASE, "-m", MODEL, "Say hi").strip()


def test_models_are_listed() -> None:
    assert MODEL in llm("openai", "endpoint", BASE, "--models")


def test_schema() -> None:
    answer = llm(
        "openai", "endpoint", BASE, "-m", MODEL, "--schema", "name, age int", "Invent a dog"
    )

    assert json.loads(answer).keys() == {"name", "age"}


def test_chat_has_two_turns() -> None:
    turns = "My name is Ada.\nWhat is my name?\nexit\n"

    out = llm("openai", "endpoint", BASE, "-m", MODEL, "--chat", text=turns)

    assert out.count("> ") >= 3
