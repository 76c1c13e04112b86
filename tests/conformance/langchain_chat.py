"""LangChain's standard integration tests of a chat model, through ChatOpenAI."""

import os
import re
from pathlib import Path

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_openai import ChatOpenAI
from langchain_tests.integration_tests import ChatModelIntegrationTests


class TestFusion(ChatModelIntegrationTests):
    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatOpenAI

    @property
    def chat_model_params(self) -> dict[str, object]:
        return {
            "model": os.environ["CONFORMANCE_MODEL"],
            "base_url": os.environ["OPENAI_BASE_URL"],
            "api_key": os.environ["OPENAI_API_KEY"],
            "stream_usage": True,
            "max_retries": 0,
        }


def test_readme(capsys: pytest.CaptureFixture[str]) -> None:
    text = Path(os.environ["CONFORMANCE_README"]).read_text()
    found = re.search(r"^```py\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert found
    code = found[1].replace("http://127.0.0.1:8000/v1", os.environ["OPENAI_BASE_URL"])

    exec(code.replace("localfusion/demo", os.environ["CONFORMANCE_MODEL"]), {})

    assert capsys.readouterr().out.strip()
