"""An agent of pydantic-ai: plain, typed (a forced function call), streamed, and with a function."""

import os

import pytest
from pydantic import BaseModel
from pydantic_ai import Agent, NativeOutput
from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider

PROVIDER = OpenAIProvider(
    base_url=os.environ["OPENAI_BASE_URL"], api_key=os.environ["OPENAI_API_KEY"]
)
MODEL = OpenAIChatModel(os.environ["CONFORMANCE_MODEL"], provider=PROVIDER)


class Joke(BaseModel):
    setup: str
    punchline: str


def test_plain() -> None:
    result = Agent(MODEL).run_sync("Tell me a joke.")

    assert result.output
    assert result.usage.input_tokens > 0
    assert result.usage.output_tokens > 0


def test_typed_by_a_function() -> None:
    result = Agent(MODEL, output_type=Joke).run_sync("Tell me a joke.")

    assert isinstance(result.output, Joke)


def test_typed_by_a_schema() -> None:
    result = Agent(MODEL, output_type=NativeOutput(Joke)).run_sync("Tell me a joke.")

    assert isinstance(result.output, Joke)


async def _stream() -> tuple[list[str], int]:
    async with Agent(MODEL).run_stream("Tell me a joke.") as run:
        return [text async for text in run.stream_text(delta=True)], run.usage.output_tokens


def test_stream() -> None:
    import asyncio

    texts, tokens = asyncio.run(_stream())

    assert "".join(texts)
    assert tokens > 0


def test_function_is_called_and_its_result_read() -> None:
    agent = Agent(MODEL)
    cities: list[str] = []

    @agent.tool_plain
    def weather(city: str) -> str:
        """Tell the weather of a city."""
        cities.append(city)
        return "sunny"

    result = agent.run_sync("What is the weather in Paris?")

    assert cities
    assert result.output


def test_responses() -> None:
    model = OpenAIResponsesModel(os.environ["CONFORMANCE_MODEL"], provider=PROVIDER)

    result = Agent(model).run_sync("Tell me a joke.")

    assert result.output


def test_unknown_model() -> None:
    model = OpenAIChatModel("no-such-model", provider=PROVIDER)

    with pytest.raises(ModelHTTPError) as error:
        Agent(model).run_sync("Tell me a joke.")

    assert error.value.status_code == 404
