"""Events of ``POST /v1/responses``: their order, numbers and content, whole and broken."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
from openai import AsyncOpenAI
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from localfusion.engines.base import Engine
from localfusion.engines.sim import SimEngine, SimFailure
from localfusion.errors import OverloadedError
from localfusion.fusion import Fusion
from tests.server.system import Served, gateway, served, traced
from tests.server.test_responses import REFUSE, RESPONSES, TRIO, WEATHER, ask, check_strictly

CALL = "response.fusion_call."
EVENTS: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)

Event = dict[str, Any]


def parse(text: str) -> list[Event]:
    """Read a stream; each frame names its event's type, and nothing follows the last."""
    events = []
    for frame in text.removesuffix("\n\n").split("\n\n"):
        if frame.startswith(":"):
            continue
        name, data = frame.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        events.append(event)
    return events


async def stream(server: Served, **fields: object) -> list[Event]:
    response = await server.http.post(RESPONSES, json=ask(stream=True, **fields))
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].startswith("text/event-stream")
    return parse(response.text)


def of(events: Sequence[Event], kind: str) -> list[Event]:
    return [event for event in events if event["type"] == kind]


def squeezed(events: Sequence[Event]) -> list[str]:
    """Name the types in their order, those in a row once."""
    names = [event["type"].removeprefix("response.") for event in events]
    return [name for place, name in enumerate(names) if place == 0 or names[place - 1] != name]


async def test_events_of_a_fusion_come_in_order() -> None:
    async with served() as server:
        events = await stream(server)

    names = squeezed(events)
    outer = [name for name in names if not name.startswith("fusion_call.panel.")]
    assert outer == [
        "created",
        "in_progress",
        "output_item.added",
        "fusion_call.in_progress",
        "fusion_call.analysis.in_progress",
        "fusion_call.analysis.completed",
        "fusion_call.completed",
        "output_item.done",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert len(of(events, f"{CALL}panel.completed")) == 3
    assert all("error" not in event for event in events), "clients take that for a failed stream"


async def test_members_are_told_with_index_as_they_speak() -> None:
    system = gateway(b=SimEngine("8 euros.", reasoning="Hm."))
    async with served(system) as server:
        events = await stream(server)

    added = of(events, f"{CALL}panel.added")
    assert [(event["model"], event["index"]) for event in added] == [("a", 0), ("b", 1), ("c", 2)]
    told = [event for event in of(events, f"{CALL}panel.delta") if event["model"] == "b"]
    thought = of(events, f"{CALL}panel.reasoning.delta")
    assert "".join(event["delta"] for event in told) == "8 euros."
    assert "".join(event["delta"] for event in thought) == "Hm."
    done = {e["index"]: e["content"] for e in of(events, f"{CALL}panel.completed")}
    assert done == {0: "Eighteen.", 1: "8 euros.", 2: "Twelve."}
    places = [e for e in events if e["type"].startswith(CALL)]
    assert {e["output_index"] for e in places} == {0}
    assert {e["item_id"] for e in places} == {events[2]["item"]["id"]}
    judge = of(events, f"{CALL}analysis.in_progress")[0]
    assert (judge["analyst_model"], judge["judge_model"]) == ("d", "d")


async def test_stream_ends_with_what_its_events_added_up_to(tmp_path: Path) -> None:
    system = gateway(d=SimEngine("They cost 8 euros in all.", reasoning="Hm."))
    async with traced(tmp_path, system) as server:
        events = await stream(server)

    final = events[-1]["response"]
    done = {e["output_index"]: e["item"] for e in of(events, "response.output_item.done")}
    assert [done[place] for place in range(3)] == final["output"]
    assert [item["type"] for item in final["output"]] == [
        "openrouter:fusion",
        "reasoning",
        "message",
    ]
    text = "".join(event["delta"] for event in of(events, "response.output_text.delta"))
    thought = "".join(event["delta"] for event in of(events, "response.reasoning_text.delta"))
    assert text == final["output"][2]["content"][0]["text"] == "They cost 8 euros in all."
    assert thought == final["output"][1]["content"][0]["text"] == "Hm."
    assert final["usage"]["total_tokens"] > 0
    assert events[0]["response"]["status"] == "in_progress"
    assert events[0]["response"]["output"] == []
    assert events[0]["response"]["id"] == final["id"]


async def test_every_event_besides_fusions_is_one_that_the_official_types_know() -> None:
    system = gateway(d=SimEngine("8 euros.", reasoning="Hm."))
    async with served(system) as server:
        events = await stream(server)
        events += await stream(server, model="d", tools=[WEATHER], tool_choice="required")

    known = 0
    for event in events:
        item = event.get("item", {})
        if event["type"].startswith(CALL) or item.get("type") == "openrouter:fusion":
            continue
        if "response" in event:
            check_strictly(event["response"])
            output = [i for i in event["response"]["output"] if i["type"] != "openrouter:fusion"]
            event["response"]["output"] = output
        EVENTS.validate_python(event)
        known += 1
    assert known > 25


async def test_strict_official_client_reads_a_single_models_stream() -> None:
    async with served() as server:
        opened = await server.openai.responses.create(model="b", input="How many?", stream=True)
        events = [event async for event in opened]

    assert [event.type for event in events] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        *["response.output_text.delta"] * 3,
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    last = events[-1]
    assert last.type == "response.completed"
    assert last.response.output_text == "8 euros."


# The client's helper writes the response anew, and warns of the item that it has no type for.
@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
async def test_official_client_adds_up_a_fusions_stream() -> None:
    async with (
        served() as server,
        AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as usual,
        usual.responses.stream(model=TRIO, input="How many?") as events,
    ):
        types = [event.type async for event in events]
        final = await events.get_final_response()

    assert f"{CALL}panel.delta" in types
    assert final.output_text == "They cost 8 euros in all."


async def test_failed_member_has_an_event() -> None:
    async with served(gateway(b=SimEngine(failure=REFUSE))) as server:
        events = await stream(server)

    failed = of(events, f"{CALL}panel.failed")
    assert [(event["model"], event["index"]) for event in failed] == [("b", 1)]
    assert failed[0]["failure_reason"] == "engine_unavailable"
    assert failed[0]["error"]
    assert len(of(events, f"{CALL}panel.completed")) == 2
    assert events[-1]["response"]["output"][0]["fusion_status"] == "degraded"


async def test_failed_judge_has_no_analysis_event_and_a_candidates_text() -> None:
    async with served(gateway(d=SimEngine(failure=REFUSE))) as server:
        events = await stream(server)

    final = events[-1]["response"]
    assert of(events, f"{CALL}analysis.completed") == []
    assert final["output"][0]["fusion_status"] == "panel_only"
    assert final["output"][0]["error"]
    assert (final["status"], final["model"]) == ("completed", "a")
    assert of(events, "response.output_text.done")[0]["text"] == "Eighteen."


async def test_function_calls_stream_their_arguments() -> None:
    async with served() as server:
        events = await stream(server, model="b", tools=[WEATHER], tool_choice="required")

    added = of(events, "response.output_item.added")[0]["item"]
    pieces = of(events, "response.function_call_arguments.delta")
    done = of(events, "response.function_call_arguments.done")[0]
    assert (added["type"], added["name"], added["arguments"]) == ("function_call", "weather", "")
    assert len(pieces) > 1
    assert "".join(piece["delta"] for piece in pieces) == done["arguments"]
    assert events[-1]["response"]["output"][0]["arguments"] == done["arguments"]
    assert events[-1]["response"]["output"][0]["call_id"] == added["call_id"]


async def test_without_panel_events_the_item_comes_whole_and_headers_know_the_status() -> None:
    async with served(gateway(b=SimEngine(failure=REFUSE))) as server:
        response = await server.http.post(
            RESPONSES, json=ask(stream=True, fusion={"stream_panel": False})
        )

    events = parse(response.text)
    assert response.headers["x-localfusion-status"] == "degraded"
    assert not [event for event in events if event["type"].startswith(CALL)]
    assert squeezed(events)[:4] == [
        "created",
        "in_progress",
        "output_item.added",
        "output_item.done",
    ]
    assert len(events[3]["item"]["responses"]) == 2
    assert events[-1]["type"] == "response.completed"


async def test_cut_answer_ends_the_stream_as_incomplete() -> None:
    async with served() as server:
        events = await stream(server, model="b", max_output_tokens=2)

    final = events[-1]
    assert final["type"] == "response.incomplete"
    assert final["response"]["incomplete_details"] == {"reason": "max_output_tokens"}
    assert of(events, "response.output_item.done")[0]["item"]["status"] == "incomplete"


async def test_failure_before_anything_was_told_has_its_own_status() -> None:
    async with served(gateway(b=SimEngine(failure=REFUSE))) as server:
        response = await server.http.post(RESPONSES, json=ask(model="b", stream=True))

    assert response.status_code == 503
    assert response.json()["error"]["code"] == "engine_unavailable"


async def test_failed_panel_ends_the_stream_with_a_failed_response() -> None:
    dead = {name: SimEngine(failure=REFUSE) for name in "abc"}
    async with served(gateway(engines=dead)) as server:
        events = await stream(server)

    failed = events[-1]
    assert failed["type"] == "response.failed"
    assert len(of(events, f"{CALL}panel.failed")) == 3
    response = failed["response"]
    assert response["status"] == "failed"
    assert response["output"][0]["status"] == "incomplete"
    assert response["output"][0]["failure_reason"] == "all_panels_failed"
    assert response["error"]["code"] == "server_error"
    assert response["error"]["metadata"]["failure_reason"] == "all_panels_failed"
    check_strictly(response)


async def test_failure_after_the_first_word_closes_the_message() -> None:
    broken = SimEngine("one two three", failure=SimFailure("error_event", at_token=2))
    async with served(gateway(b=broken)) as server:
        events = await stream(server, model="b")
        stored = await server.http.get(f"{RESPONSES}/{events[0]['response']['id']}")

    assert squeezed(events)[-4:] == [
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "failed",
    ]
    assert events[-2]["item"]["status"] == "incomplete"
    assert events[-2]["item"]["content"][0]["text"] == "one two"
    assert stored.json() == events[-1]["response"]


async def test_failure_before_a_run_began_is_an_error_event() -> None:
    """Only a comment has been sent by then, so that there is no response to fail."""
    system, leave = gateway(server={"keepalive": 0.05}), asyncio.Event()

    class Late(AbstractAsyncContextManager[Mapping[str, Engine]]):
        async def __aenter__(self) -> Mapping[str, Engine]:
            await leave.wait()
            raise OverloadedError("too much to do; ask again later")

        async def __aexit__(self, *_: object) -> None:
            """Never entered."""

    system.fusion = Fusion(
        system.engines, system.settings.presets, default_preset="trio", lease=lambda _: Late()
    )
    async with (
        served(system) as server,
        server.http.stream("POST", RESPONSES, json=ask(stream=True)) as response,
    ):
        lines = response.aiter_lines()
        comment = await anext(lines)
        leave.set()
        rest = "\n".join([line async for line in lines if not line.startswith(":")])

    (event,) = parse(rest.strip("\n") + "\n\n")
    assert comment.startswith(": localfusion")
    assert (event["type"], event["code"]) == ("error", "engine_overloaded")
    assert EVENTS.validate_python(event).sequence_number == 0


@pytest.mark.parametrize("order", ["answer first", "thoughts between"])
async def test_whole_and_streamed_replies_hold_the_same_items(order: str) -> None:
    engine = SimEngine("8 euros.", reasoning="Hm." if order == "thoughts between" else "")
    async with served(gateway(b=engine)) as server:
        whole = (await server.http.post(RESPONSES, json=ask(model="b"))).json()
        events = await stream(server, model="b")

    def bare(response: Event) -> list[Event]:
        return [{k: v for k, v in item.items() if k != "id"} for item in response["output"]]

    assert bare(whole) == bare(events[-1]["response"])
    assert whole["usage"]["output_tokens"] == events[-1]["response"]["usage"]["output_tokens"]
    assert Response.model_validate(whole).status == "completed"
