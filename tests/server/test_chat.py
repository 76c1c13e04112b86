"""Chat completions through the official client, on a real port."""

import json
from pathlib import Path

import pytest
from openai import APIError, BadRequestError, InternalServerError, NotFoundError
from openai.types.chat import ChatCompletionMessageParam

from localfusion.client import RemoteFusion
from localfusion.engines.sim import SimEngine, SimFailure
from localfusion.events import RunCompleted
from localfusion.types import Message, Request, SamplingParams
from tests.server.system import CHAT, body, gateway, served, traced

ASK: list[ChatCompletionMessageParam] = [{"role": "user", "content": "How many pens?"}]
TRIO = "localfusion/trio"
REFUSE = SimFailure("refuse")


def extra(model: object, name: str) -> object:
    """Read a field that the official types do not know."""
    return (getattr(model, "model_extra", None) or {}).get(name)


async def test_answer_comes_whole() -> None:
    async with served() as server:
        answer = await server.openai.chat.completions.create(model=TRIO, messages=ASK)

    assert answer.object == "chat.completion"
    assert answer.model == "d"
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].message.content == "They cost 8 euros in all."
    assert answer.choices[0].finish_reason == "stop"
    assert extra(answer, "fusion") is None


async def test_usage_is_the_sum_of_the_stages() -> None:
    async with served() as server:
        answer = await server.openai.chat.completions.create(model=TRIO, messages=ASK)

    usage = answer.usage
    stages = extra(usage, "stages")
    assert usage is not None
    assert isinstance(stages, dict)
    assert list(stages) == ["panel", "analysis", "synthesis"]
    assert stages["panel"]["calls"] == 3
    assert usage.prompt_tokens == sum(stage["prompt_tokens"] for stage in stages.values())
    assert usage.completion_tokens == sum(stage["completion_tokens"] for stage in stages.values())
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert usage.prompt_tokens_details is not None


async def test_stream_brings_role_then_each_token_then_finish_then_usage() -> None:
    async with served() as server:
        stream = await server.openai.chat.completions.create(
            model=TRIO, messages=ASK, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]

    deltas = [chunk.choices[0].delta for chunk in chunks[:-1]]
    texts = [delta.content for delta in deltas[1:-1]]
    assert deltas[0].role == "assistant"
    assert "".join(text or "" for text in texts) == "They cost 8 euros in all."
    assert len(texts) == 7, "one chunk per token, nothing merged and nothing cut"
    assert [c.choices[0].finish_reason for c in chunks[-3:-1]] == [None, "stop"]
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens > 0
    assert {(c.id, c.created, c.model) for c in chunks} == {(chunks[0].id, chunks[0].created, "d")}


async def test_stream_and_whole_answer_count_the_same_tokens() -> None:
    async with served() as server:
        whole = await server.openai.chat.completions.create(model=TRIO, messages=ASK, seed=1)
        stream = await server.openai.chat.completions.create(
            model=TRIO, messages=ASK, seed=1, stream=True, stream_options={"include_usage": True}
        )
        usage = [chunk.usage async for chunk in stream][-1]

    assert whole.usage is not None
    assert usage is not None
    assert (usage.completion_tokens, usage.prompt_tokens) == (
        whole.usage.completion_tokens,
        whole.usage.prompt_tokens,
    )


async def test_first_token_arrives_before_the_judge_is_done() -> None:
    judge = SimEngine("one two three", failure=_stall_when_writing)
    system = gateway(d=judge)
    async with served(system) as server:
        stream = await server.openai.chat.completions.create(model=TRIO, messages=ASK, stream=True)
        texts = [(await anext(stream)).choices[0].delta.content for _ in range(2)]
        await stream.close()

    assert texts == ["", "one"]


def _stall_when_writing(prompt: object) -> SimFailure | None:
    return SimFailure("stall", at_token=1) if getattr(prompt, "schema", None) is None else None


async def test_plain_model_answers_under_its_own_name() -> None:
    async with served() as server:
        answer = await server.openai.chat.completions.create(model="b", messages=ASK)

    assert (answer.model, answer.choices[0].message.content) == ("b", "8 euros.")
    assert server.gateway.calls == 1


@pytest.mark.parametrize("slug", ["trio", "openrouter/fusion", "openrouter/fusion-flash"])
async def test_slug_is_a_fusion(slug: str) -> None:
    async with served() as server:
        answer = await server.openai.chat.completions.create(model=slug, messages=ASK)

    assert answer.model == "d"
    assert server.gateway.calls == 5


async def test_reasoning_goes_out_under_both_names() -> None:
    system = gateway(b=SimEngine("8 euros.", reasoning="Hm."))
    async with served(system) as server:
        whole = await server.openai.chat.completions.create(model="b", messages=ASK)
        stream = await server.openai.chat.completions.create(model="b", messages=ASK, stream=True)
        deltas = [chunk.choices[0].delta async for chunk in stream]

    for name in ("reasoning", "reasoning_content"):
        assert extra(whole.choices[0].message, name) == "Hm."
        assert "".join(str(extra(delta, name) or "") for delta in deltas) == "Hm."


async def test_full_answer_is_told_in_headers(tmp_path: Path) -> None:
    async with traced(tmp_path) as server:
        response = await server.http.post(CHAT, json=body(top_k=4))

    assert response.headers["x-localfusion-status"] == "full"
    assert response.json()["id"] == f"chatcmpl-{response.headers['x-localfusion-trace']}"
    assert "x-localfusion-lost" not in response.headers
    assert response.headers["x-localfusion-ignored"] == "top_k"
    assert response.headers["x-request-id"].startswith("req_")


@pytest.mark.parametrize("stream", [False, True])
async def test_lost_member_is_told_before_the_text(tmp_path: Path, stream: bool) -> None:
    async with traced(tmp_path, gateway(b=SimEngine(failure=REFUSE))) as server:
        response = await server.http.post(CHAT, json=body(stream=stream))

    first = json.loads(response.text.split("\n\n")[0][6:]) if stream else response.json()
    assert response.headers["x-localfusion-status"] == "degraded"
    assert response.headers["x-localfusion-lost"].startswith("1=")
    assert first["fusion"]["status"] == "degraded"
    assert first["fusion"]["trace_id"] == response.headers["x-localfusion-trace"]
    assert [(lost["index"], lost["model"]) for lost in first["fusion"]["lost"]] == [(1, "b")]


async def test_failed_judge_leaves_a_candidate_and_says_so() -> None:
    async with served(gateway(d=SimEngine(failure=REFUSE))) as server:
        answer = await server.openai.chat.completions.create(model=TRIO, messages=ASK)

    assert (answer.model, answer.choices[0].message.content) == ("a", "Eighteen.")
    fusion = extra(answer, "fusion")
    assert isinstance(fusion, dict)
    assert fusion["status"] == "panel_only"


@pytest.mark.parametrize("stream", [False, True])
async def test_unknown_model_is_404_naming_the_known_ones(stream: bool) -> None:
    async with served() as server:
        with pytest.raises(NotFoundError, match="trio") as refused:
            await server.openai.chat.completions.create(
                model="../../etc/passwd\u202e", messages=ASK, stream=stream
            )

    assert (refused.value.code, refused.value.param) == ("model_not_found", "model")
    assert "\u202e" not in refused.value.message


@pytest.mark.parametrize("stream", [False, True])
async def test_too_long_prompt_is_refused_before_any_engine_is_called(stream: bool) -> None:
    async with served(gateway(b=SimEngine(max_model_len=64))) as server:
        with pytest.raises(BadRequestError, match="whose window holds 64") as refused:
            await server.openai.chat.completions.create(
                model=TRIO, messages=[{"role": "user", "content": "pens " * 99}], stream=stream
            )

    assert refused.value.code == "context_length_exceeded"
    assert server.gateway.calls == 0


@pytest.mark.parametrize("stream", [False, True])
async def test_failed_panel_is_503_that_need_not_be_repeated(stream: bool) -> None:
    dead = {name: SimEngine(failure=REFUSE) for name in "abc"}
    async with served(gateway(engines=dead)) as server:
        with pytest.raises(InternalServerError) as failed:
            await server.openai.chat.completions.create(model=TRIO, messages=ASK, stream=stream)

    error = failed.value
    assert (error.status_code, error.code) == (503, "all_panels_failed")
    assert error.response.headers["x-should-retry"] == "false"
    assert isinstance(error.body, dict)
    metadata = error.body["metadata"]
    assert metadata["failure_reason"] == "all_panels_failed"
    assert metadata["stage"] == "panel"
    assert metadata["trace_id"] == error.response.headers["x-localfusion-trace"]


async def test_failure_after_the_first_word_ends_the_stream_with_an_error() -> None:
    broken = SimEngine("one two three", failure=SimFailure("error_event", at_token=2))
    async with served(gateway(b=broken)) as server:
        stream = await server.openai.chat.completions.create(model="b", messages=ASK, stream=True)
        texts = [(await anext(stream)).choices[0].delta.content for _ in range(3)]
        with pytest.raises(APIError) as failed:
            await anext(stream)
        raw = await server.http.post(CHAT, json=body(model="b", stream=True))

    last = json.loads(raw.text.strip().split("\n\n")[-1][6:])
    assert texts == ["", "one", " two"]
    assert failed.value.code == last["error"]["code"]
    assert last["choices"][0]["finish_reason"] == "error"
    assert last["error"]["metadata"]["stage"] == "synthesis"
    assert last["error"]["metadata"]["model"] == "b"
    assert "[DONE]" not in raw.text


async def test_same_failure_unstreamed_is_an_error_status() -> None:
    broken = SimEngine("one two three", failure=SimFailure("error_event", at_token=2))
    async with served(gateway(b=broken)) as server:
        with pytest.raises(InternalServerError) as failed:
            await server.openai.chat.completions.create(model="b", messages=ASK)

    assert failed.value.status_code == 502
    assert failed.value.response.headers["x-should-retry"] == "false"


async def test_our_own_client_sees_the_run_as_if_it_were_here() -> None:
    request = Request("trio", (Message("user", "How many pens?"),), SamplingParams(seed=1))
    async with served() as server:
        client = RemoteFusion(server.url)
        far = [event async for event in client.stream(request)]
        near = [event async for event in server.gateway.fusion.stream(request)]
        await client.aclose()

    assert [type(event) for event in far] == [type(event) for event in near]
    assert isinstance(far[-1], RunCompleted)
    assert far[-1].answer.text == "They cost 8 euros in all."
    assert far[-1].answer.candidates[1].text == "8 euros."


async def test_events_of_the_run_come_on_request() -> None:
    async with served() as server:
        response = await server.http.post(
            CHAT, json=body(stream=True, fusion={"stream_panel": True})
        )

    frames = [json.loads(f[6:]) for f in response.text.split("\n\n") if f.startswith("data: {")]
    types = [frame["fusion_event"]["type"] for frame in frames if "fusion_event" in frame]
    assert response.headers["x-localfusion-status"] == "pending"
    assert types[0] == "response.fusion_call.in_progress"
    assert types.count("response.fusion_call.panel.completed") == 3
    assert types[-1] == "response.fusion_call.completed"
    assert all(frame["choices"] == [] for frame in frames if "fusion_event" in frame)


async def test_request_may_name_its_policy_and_deadline() -> None:
    fusion = {"policy": "vote", "deadline_ms": 5000}
    async with served(gateway(c=SimEngine("8"))) as server:
        response = await server.http.post(CHAT, json=body(fusion=fusion))

    assert response.status_code == 200
    assert response.json()["model"] in ("b", "c")
    assert "synthesis" not in response.json()["usage"]["stages"]


@pytest.mark.parametrize(
    ("options", "param", "hint"),
    [
        ({"policy": "vot"}, "fusion.policy", "did you mean 'vote'"),
        ({"options": {"analisis": "none"}}, "fusion.options.analisis", "did you mean 'analysis'"),
        (
            {"policy": "select", "options": {"confidence": 2}},
            "fusion.options.confidence",
            "less than or equal to 1",
        ),
        ({"deadline_ms": 5}, "fusion.deadline_ms", "100"),
    ],
)
async def test_wrong_fusion_options_are_refused_by_name(
    options: dict[str, object], param: str, hint: str
) -> None:
    async with served() as server:
        response = await server.http.post(CHAT, json=body(fusion=options))

    error = response.json()["error"]
    assert (response.status_code, error["param"]) == (400, param)
    assert hint in error["message"]
