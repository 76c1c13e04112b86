"""``/v1/completions``: a plain model goes on with a text."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from localfusion.engines.sim import SimEngine, SimFailure
from localfusion.types import Message
from tests.server.system import Served, gateway, served

PATH = "/v1/completions"


async def streamed(server: Served, prompt: object, **fields: object) -> list[Any]:
    """Return the chunks; the official client's strict mode knows no open finish_reason."""
    asked = {"model": "a", "prompt": prompt, "stream": True, **fields}
    answer = await server.http.post(PATH, json=asked)
    assert answer.text.endswith("data: [DONE]\n\n")
    lines = answer.text.removesuffix("data: [DONE]\n\n").splitlines()
    return [json.loads(line.removeprefix("data: ")) for line in lines if line]


async def test_text_reaches_the_engine_as_it_is() -> None:
    system = gateway()
    async with served(system) as server:
        done = await server.openai.completions.create(
            model="a", prompt="def add(", max_tokens=20, temperature=0, stop=["END"], seed=3
        )

    (choice,) = done.choices
    assert (done.object, choice.text, choice.finish_reason) == (
        "text_completion",
        "Eighteen.",
        "stop",
    )
    assert done.usage is not None
    assert done.usage.completion_tokens > 0
    (prompt,) = system.engines["a"].calls
    assert (prompt.raw, prompt.messages) == ("def add(", ())
    assert (prompt.sampling.max_tokens, prompt.sampling.stop) == (20, ("END",))


async def test_stream_gives_the_same_text_and_its_usage() -> None:
    async with served(gateway(a=SimEngine("one two three four", name="a"))) as server:
        chunks = await streamed(server, "x", stream_options={"include_usage": True})

    texts = [chunk["choices"][0]["text"] for chunk in chunks if chunk["choices"]]
    assert len(texts) > 2
    assert "".join(texts) == "one two three four"
    assert chunks[-1]["usage"]["completion_tokens"] == 4
    assert chunks[-2]["choices"][0]["finish_reason"] == "stop"


async def test_several_texts_and_samples_are_choices_in_their_order() -> None:
    echo = SimEngine(lambda prompt: f"after {prompt.raw}", name="a")
    async with served(gateway(a=echo)) as server:
        done = await server.openai.completions.create(model="a", prompt=["x", "y"], n=2)
        texts = dict.fromkeys(range(2), "")
        for chunk in await streamed(server, ["x", "y"]):
            for choice in chunk["choices"]:
                texts[choice["index"]] += choice["text"]

    assert [choice.text for choice in done.choices] == ["after x", "after x", "after y", "after y"]
    assert [choice.index for choice in done.choices] == [0, 1, 2, 3]
    assert texts == {0: "after x", 1: "after y"}


async def test_probabilities_are_told_by_token() -> None:
    async with served() as server:
        done = await server.openai.completions.create(model="a", prompt="x", logprobs=2)

    told = done.choices[0].logprobs
    assert told is not None
    assert told.tokens is not None
    assert told.text_offset is not None
    assert "".join(told.tokens) == "Eighteen."
    assert told.text_offset[0] == 0
    assert told.token_logprobs is not None
    assert len(told.token_logprobs) == len(told.tokens)


async def test_default_length_is_openais() -> None:
    async with served(gateway(a=SimEngine("word " * 99, name="a"))) as server:
        done = await server.openai.completions.create(model="a", prompt="x")

    assert done.choices[0].finish_reason == "length"
    assert done.usage is not None
    assert done.usage.completion_tokens == 16


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"model": "localfusion/trio"}, "model"),
        ({"model": "openrouter/fusion"}, "model"),
        ({"prompt": []}, "prompt"),
        ({"prompt": ["x", 1]}, "prompt[1]"),
        ({"prompt": [[]]}, "prompt[0]"),
        ({"prompt": [True]}, "prompt[0]"),
        ({"prompt": ["x"] * 9, "n": 2}, "prompt"),
        ({"echo": True}, "echo"),
        ({"best_of": 2}, "best_of"),
        ({"suffix": "x"}, "suffix"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"logprobs": 21}, "logprobs"),
        ({"stream_options": {}}, "stream_options"),
    ],
)
async def test_what_is_wrong_is_named(change: Mapping[str, object], param: str) -> None:
    async with served() as server:
        answer = await server.http.post(PATH, json={"model": "a", "prompt": "x", **change})

    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"] == param
    assert server.gateway.calls == 0


@pytest.mark.parametrize("prompt", [[1, 2, 3], [[1], [2, 3]]])
async def test_token_numbers_are_refused_with_what_to_send(prompt: list[object]) -> None:
    async with served() as server:
        answer = await server.http.post(PATH, json={"model": "a", "prompt": prompt})

    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (400, "unsupported_parameter")
    assert error["message"].startswith("prompt may not be token numbers; send the text")
    assert server.gateway.calls == 0


async def test_failures_have_their_status_or_end_the_stream() -> None:
    refuses = SimEngine("8", name="a", failure=SimFailure("refuse"))
    breaks = SimEngine("word " * 9, name="b", failure=SimFailure("error_event", at_token=3))
    async with served(gateway(a=refuses, b=breaks)) as server:
        refused = await server.http.post(PATH, json={"model": "a", "prompt": "x"})
        broken = await server.http.post(PATH, json={"model": "b", "prompt": "x", "stream": True})

    assert refused.status_code == 503
    assert '"finish_reason":"error"' in broken.text
    assert "[DONE]" not in broken.text


async def test_chat_is_not_changed_by_it() -> None:
    system = gateway()
    async with served(system) as server:
        await server.openai.chat.completions.create(
            model="a", messages=[{"role": "user", "content": "x"}]
        )

    assert system.engines["a"].calls[0].messages == (Message("user", "x"),)
    assert system.engines["a"].calls[0].raw is None
