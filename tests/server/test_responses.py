"""``/v1/responses`` on a real port: whole replies, tools, forms, and the official client."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from openai import APIResponseValidationError, AsyncOpenAI, NotFoundError
from openai.types.responses import FunctionToolParam, Response

from localfusion.engines.sim import SimEngine, SimFailure
from localfusion.types import Message, Prompt
from tests.server.system import Served, gateway, served, traced

RESPONSES = "/v1/responses"
TRIO = "localfusion/trio"
REFUSE = SimFailure("refuse")
WEATHER: FunctionToolParam = {
    "type": "function",
    "name": "weather",
    "description": "The weather of a town.",
    "parameters": {
        "type": "object",
        "properties": {"town": {"type": "string"}},
        "required": ["town"],
    },
    "strict": True,
}


def ask(text: object = "How many pens?", /, **fields: object) -> dict[str, object]:
    return {"model": TRIO, "input": text, **fields}


async def create(
    server: Served, text: object = "How many pens?", /, **fields: object
) -> dict[str, Any]:
    response = await server.http.post(RESPONSES, json=ask(text, **fields))
    assert response.status_code == 200, response.text
    found = response.json()
    assert isinstance(found, dict)
    return found


def kinds(body: Mapping[str, Any]) -> list[str]:
    return [item["type"] for item in body["output"]]


def text_of(body: Mapping[str, Any]) -> str:
    return str(body["output"][-1]["content"][0]["text"])


def check_strictly(body: Mapping[str, Any]) -> Response:
    """Read a response as the official types have it, which know no fusion item."""
    known = [item for item in body["output"] if item["type"] != "openrouter:fusion"]
    return Response.model_validate({**body, "output": known})


def said(prompt: Prompt) -> Sequence[Message]:
    return prompt.messages


async def test_fusion_comes_before_the_message_that_came_of_it(tmp_path: Path) -> None:
    async with traced(tmp_path) as server:
        body = await create(server)

    fusion = body["output"][0]
    assert kinds(body) == ["openrouter:fusion", "message"]
    assert text_of(body) == "They cost 8 euros in all."
    assert (body["status"], body["model"]) == ("completed", "d")
    assert fusion["status"] == "completed"
    assert fusion["fusion_status"] == "full"
    assert body["id"] == f"resp_{fusion['trace_id']}"
    assert [(r["model"], r["content"]) for r in fusion["responses"]] == [
        ("a", "Eighteen."),
        ("b", "8 euros."),
        ("c", "Twelve."),
    ]
    assert (fusion["failed_models"], fusion["sources"], fusion["error"]) == ([], [], None)
    assert "fusion" not in body
    check_strictly(body)


async def test_judge_analyzes_apart_unless_the_client_or_the_preset_says_otherwise() -> None:
    async with served(gateway(preset={"options": {}})) as server:
        usual = await create(server)
        otherwise = await create(server, fusion={"analysis": "none"})
    async with served(gateway(preset={"options": {"analysis": "none"}})) as server:
        preset = await create(server)

    assert list(usual["output"][0]["analysis"]) == [
        "consensus",
        "contradictions",
        "partial_coverage",
        "unique_insights",
        "blind_spots",
    ]
    assert "analysis" in usual["usage"]["stages"]
    assert otherwise["output"][0]["analysis"] is None
    assert preset["output"][0]["analysis"] is None


async def test_usage_is_the_sum_of_the_stages() -> None:
    async with served() as server:
        usage = (await create(server))["usage"]

    stages = usage.pop("stages")
    assert list(stages) == ["panel", "analysis", "synthesis"]
    assert stages["panel"]["calls"] == 3
    assert usage["input_tokens"] == sum(stage["input_tokens"] for stage in stages.values())
    assert usage["output_tokens"] == sum(stage["output_tokens"] for stage in stages.values())
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]


async def test_strict_official_client_reads_a_single_models_reply() -> None:
    system = gateway(b=SimEngine("8 euros.", reasoning="Hm."))
    async with served(system) as server:
        answer = await server.openai.responses.create(
            model="b", input="How many?", instructions="Be brief.", metadata={"for": "test"}
        )
        again = await server.openai.responses.retrieve(answer.id)

    assert answer.output_text == "8 euros."
    assert [item.type for item in answer.output] == ["reasoning", "message"]
    assert (answer.model, answer.status, answer.instructions) == ("b", "completed", "Be brief.")
    assert answer.metadata == {"for": "test"}
    assert answer.usage is not None
    assert answer.usage.output_tokens_details.reasoning_tokens == 2
    assert again == answer
    assert said(server.gateway.engines["b"].calls[0]) == (
        Message("system", "Be brief."),
        Message("user", "How many?"),
    )


async def test_official_client_reads_a_fusion_unless_it_is_made_strict() -> None:
    async with (
        served() as server,
        AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as usual,
    ):
        answer = await usual.responses.create(model=TRIO, input="How many?")
        with pytest.raises(APIResponseValidationError):
            await server.openai.responses.create(model=TRIO, input="How many?")

    assert answer.output_text == "They cost 8 euros in all."
    assert [item.type for item in answer.output] == ["openrouter:fusion", "message"]


async def test_items_become_the_conversation_of_every_model() -> None:
    conversation = [
        {"role": "developer", "content": "Be brief."},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hello"}]},
        {"type": "openrouter:fusion", "id": "fus_1", "status": "completed"},
        {"type": "reasoning", "id": "rs_1", "summary": []},
        {
            "type": "message",
            "id": "msg_1",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": "Hi", "annotations": []}],
        },
        {"role": "user", "content": [{"type": "input_text", "text": t} for t in ("How", "many?")]},
    ]
    async with served() as server:
        await create(server, conversation)

    for member in "abc":
        assert said(server.gateway.engines[member].calls[0]) == (
            Message("system", "Be brief."),
            Message("user", "Hello"),
            Message("assistant", "Hi"),
            Message("user", "How\nmany?"),
        )


async def test_lost_member_is_told_in_item_block_and_headers() -> None:
    async with served(gateway(b=SimEngine(failure=REFUSE))) as server:
        response = await server.http.post(RESPONSES, json=ask())

    body = response.json()
    fusion = body["output"][0]
    assert response.headers["x-localfusion-status"] == "degraded"
    assert response.headers["x-localfusion-lost"].startswith("1=")
    assert fusion["fusion_status"] == "degraded"
    assert [(m["model"], m["index"]) for m in fusion["failed_models"]] == [("b", 1)]
    assert fusion["failed_models"][0]["error"]
    assert [r["model"] for r in fusion["responses"]] == ["a", "c"]
    assert body["fusion"]["lost"][0]["model"] == "b"
    check_strictly(body)


async def test_failed_judge_leaves_a_candidate_and_says_why() -> None:
    async with served(gateway(d=SimEngine(failure=REFUSE))) as server:
        body = await create(server)

    fusion = body["output"][0]
    assert (body["model"], text_of(body)) == ("a", "Eighteen.")
    assert (fusion["fusion_status"], fusion["analysis"]) == ("panel_only", None)
    assert fusion["error"]
    assert fusion["failure_reason"] == body["fusion"]["reason"]


async def test_samples_of_one_model_are_told_apart_by_name() -> None:
    async with served(gateway(preset={"panel": [{"model": "a", "n": 2}, "b"]})) as server:
        body = await create(server)

    assert [r["model"] for r in body["output"][0]["responses"]] == ["a", "a#2", "b"]


async def test_failed_panel_is_503_that_need_not_be_repeated() -> None:
    dead = {name: SimEngine(failure=REFUSE) for name in "abc"}
    async with served(gateway(engines=dead)) as server:
        response = await server.http.post(RESPONSES, json=ask())

    assert response.status_code == 503
    assert response.json()["error"]["code"] == "all_panels_failed"
    assert response.headers["x-should-retry"] == "false"


async def test_cut_answer_is_incomplete() -> None:
    async with served() as server:
        body = await create(server, max_output_tokens=2)

    assert body["status"] == "incomplete"
    assert body["incomplete_details"] == {"reason": "max_output_tokens"}
    assert body["output"][-1]["status"] == "incomplete"
    assert text_of(body) == "They cost"
    assert body["completed_at"] is None
    check_strictly(body)


async def test_answer_of_nothing_is_an_empty_message() -> None:
    async with served(gateway(b=SimEngine(""))) as server:
        body = await create(server, model="b")

    assert kinds(body) == ["message"]
    assert text_of(body) == ""


async def test_settings_reach_the_model_that_writes_and_are_told_back() -> None:
    fields: dict[str, Any] = {
        "temperature": 0.25,
        "top_p": 0.5,
        "max_output_tokens": 50,
        "reasoning": {"effort": "xhigh", "summary": "auto"},
    }
    async with served() as server:
        body = await create(server, **fields)

    prompt = server.gateway.engines["d"].calls[-1]
    assert (prompt.sampling.temperature, prompt.sampling.top_p) == (0.25, 0.5)
    assert prompt.sampling.max_tokens == 50
    assert prompt.effort == "high"
    assert server.gateway.engines["a"].calls[0].sampling.temperature != 0.25
    assert {name: body[name] for name in fields} == fields


@pytest.mark.parametrize(
    "form",
    [
        {"fusion": {"policy": "vote"}},
        {"plugins": [{"id": "fusion", "policy": "vote"}]},
        {"tools": [{"type": "openrouter:fusion", "parameters": {"policy": "vote"}}]},
    ],
)
async def test_every_form_of_fusion_options_is_read(form: dict[str, object]) -> None:
    async with served(gateway(c=SimEngine("8"))) as server:
        body = await create(server, **form)

    assert body["model"] in ("b", "c")
    assert kinds(body) == ["openrouter:fusion", "message"]


async def test_disabled_fusion_is_one_voice_without_an_item() -> None:
    async with served() as server:
        body = await create(server, plugins=[{"id": "fusion", "enabled": False}])

    assert kinds(body) == ["message"]
    assert body["fusion"]["reason"] == "disabled"


async def test_included_account_comes_as_in_chat() -> None:
    async with served() as server:
        body = await create(server, fusion={"include": ["candidates", "text"]})

    assert body["fusion"]["requested"] == TRIO
    assert [c["text"] for c in body["fusion"]["candidates"]] == [
        "Eighteen.",
        "8 euros.",
        "Twelve.",
    ]


async def test_fusion_inside_a_fusion_is_refused() -> None:
    async with served() as server:
        headers = {"x-openrouter-fusion-depth": "1"}
        response = await server.http.post(RESPONSES, json=ask(), headers=headers)

    assert response.status_code == 400
    assert response.json()["error"]["code"] == "recursion_refused"


async def test_unknown_fields_are_ignored_by_name() -> None:
    async with served() as server:
        response = await server.http.post(RESPONSES, json=ask(seed=1, prompt_cache_key="x"))

    assert response.headers["x-localfusion-ignored"] == "seed"


async def test_compaction_is_refused_with_what_to_do() -> None:
    async with served() as server:
        answer = await server.http.post(f"{RESPONSES}/compact", json=ask())

    assert answer.status_code == 404
    assert "send the turns that matter" in answer.json()["error"]["message"]


async def test_unknown_model_is_404() -> None:
    async with served() as server:
        with pytest.raises(NotFoundError) as refused:
            await server.openai.responses.create(model="gpt", input="x")

    assert (refused.value.code, refused.value.param) == ("model_not_found", "model")
    assert server.gateway.calls == 0
