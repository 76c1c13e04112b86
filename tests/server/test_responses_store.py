"""Stored responses: found again, carried on, listed, deleted; bounded, and each owner's alone."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx2
import pytest
from openai import NotFoundError

from localfusion.engines.sim import SimEngine
from localfusion.server.access import Access
from localfusion.server.app import create_app
from localfusion.server.envelope import NotFoundError as Missing
from localfusion.server.keys import KeyFile
from localfusion.server.store import MemoryStore, StoredResponse
from localfusion.types import Message
from tests.server.system import Served, gateway, served
from tests.server.test_responses import RESPONSES, WEATHER, ask, create


async def error_of(server: Served, method: str, path: str) -> tuple[int, Mapping[str, Any]]:
    response = await server.http.request(method, f"{RESPONSES}/{path}")
    return response.status_code, response.json()["error"]


async def test_conversation_goes_on_from_a_stored_response() -> None:
    async with served() as server:
        first = await create(server, "How many pens?", instructions="Be brief.")
        second = await create(server, "And caps?", previous_response_id=first["id"])
        third = await create(server, "Sure?", previous_response_id=second["id"])

    assert second["previous_response_id"] == first["id"]
    assert third["instructions"] is None
    assert server.gateway.engines["a"].calls[-1].messages == (
        Message("user", "How many pens?"),
        Message("assistant", "They cost 8 euros in all."),
        Message("user", "And caps?"),
        Message("assistant", "They cost 8 euros in all."),
        Message("user", "Sure?"),
    )


async def test_conversation_survives_the_deletion_of_its_beginning() -> None:
    async with served() as server:
        first = await create(server)
        second = await create(server, "And caps?", previous_response_id=first["id"])
        await server.openai.responses.delete(first["id"])
        await create(server, "Sure?", previous_response_id=second["id"])

    assert len(server.gateway.engines["a"].calls[-1].messages) == 5


async def test_stored_call_is_answered_by_its_output_alone() -> None:
    system = gateway(b=SimEngine("It is sunny.", calls_tools=True))
    async with served(system) as server:
        first = await create(server, model="b", tools=[WEATHER])
        output = {
            "type": "function_call_output",
            "call_id": first["output"][0]["call_id"],
            "output": "sunny",
        }
        second = await create(
            server, [output], model="b", tools=[WEATHER], previous_response_id=first["id"]
        )

    roles = [message.role for message in system.engines["b"].calls[-1].messages]
    assert roles == ["user", "assistant", "tool"]
    assert second["output"][0]["content"][0]["text"] == "It is sunny."


async def test_streamed_response_is_stored_too() -> None:
    async with served() as server:
        stream = await server.openai.responses.create(model="b", input="How many?", stream=True)
        last = [event async for event in stream][-1]
        assert last.type == "response.completed"
        stored = await server.openai.responses.retrieve(last.response.id)

    assert stored == last.response


async def test_fusion_item_is_stored_and_not_shown_to_the_models_again() -> None:
    async with served() as server:
        first = await create(server)
        stored = (await server.http.get(f"{RESPONSES}/{first['id']}")).json()
        await create(server, "And caps?", previous_response_id=first["id"])

    assert stored == first
    assert "Eighteen" not in str(server.gateway.engines["a"].calls[-1].messages)


async def test_deleted_response_is_gone() -> None:
    async with served() as server:
        made = await server.openai.responses.create(model="b", input="How many?")
        deleted = await server.http.delete(f"{RESPONSES}/{made.id}")
        with pytest.raises(NotFoundError) as missing:
            await server.openai.responses.retrieve(made.id)

    assert deleted.json() == {"id": made.id, "object": "response", "deleted": True}
    assert missing.value.code == "not_found"


async def test_unknown_id_is_not_found() -> None:
    async with served() as server:
        found = [
            await error_of(server, method, path)
            for method, path in (
                ("GET", "resp_x"),
                ("DELETE", "resp_x"),
                ("POST", "resp_x/cancel"),
                ("GET", "resp_x/input_items"),
                ("GET", "..%2fresp_x"),
                ("GET", "x" * 5000),
            )
        ]

    assert [(status, error["code"]) for status, error in found] == [(404, "not_found")] * 6
    assert all("resp_x" not in error["message"] for _, error in found)


async def test_unknown_previous_response_is_not_found_and_runs_nothing() -> None:
    async with served() as server:
        response = await server.http.post(RESPONSES, json=ask(previous_response_id="resp_x"))

    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (404, "not_found")
    assert error["param"] == "previous_response_id"
    assert server.gateway.calls == 0


async def test_response_that_is_not_to_be_stored_is_not() -> None:
    async with served() as server:
        made = await create(server, model="b", store=False)
        status, _ = await error_of(server, "GET", made["id"])

    assert made["store"] is False
    assert status == 404


async def test_finished_response_cannot_be_cancelled() -> None:
    async with served() as server:
        made = await create(server, model="b")
        status, error = await error_of(server, "POST", f"{made['id']}/cancel")

    assert status == 400
    assert "only background responses can be cancelled" in error["message"]


async def test_stored_response_is_not_streamed_again() -> None:
    async with served() as server:
        made = await create(server, model="b")
        status, error = await error_of(server, "GET", f"{made['id']}?stream=true")

    assert (status, error["param"]) == (400, "stream")


async def test_input_items_are_listed_newest_first_page_by_page() -> None:
    conversation = [
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "two"},
        {"type": "function_call", "call_id": "c", "name": "weather", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "sunny"},
        {"id": "msg_mine", "role": "user", "content": "five"},
    ]
    async with served() as server:
        made = await create(server, conversation, model="b")
        listed = server.openai.responses.input_items
        first = await listed.list(made["id"], limit=2)
        everything = [item async for item in listed.list(made["id"], limit=2)]
        rising = [item async for item in listed.list(made["id"], order="asc")]

    assert (first.has_more, len(first.data), first.data[0].id) == (True, 2, "msg_mine")
    assert [item.type for item in rising] == [
        "message",
        "message",
        "function_call",
        "function_call_output",
        "message",
    ]
    assert everything == rising[::-1]


async def test_input_items_hold_the_earlier_turns() -> None:
    async with served() as server:
        first = await create(server, model="b")
        second = await create(server, "And caps?", model="b", previous_response_id=first["id"])
        items = (await server.http.get(f"{RESPONSES}/{second['id']}/input_items")).json()["data"]

    texts = [item["content"][0]["text"] for item in items]
    assert texts == ["And caps?", "8 euros.", "How many pens?"]


async def test_wrong_page_is_refused_by_its_parameter() -> None:
    queries = {
        "limit=0": "limit",
        "limit=-1": "limit",
        "limit=101": "limit",
        "limit=1000000000": "limit",
        "limit=ten": "limit",
        "limit=1&limit=2": "limit",
        "order=up": "order",
        "after=msg_x": "after",
    }
    async with served() as server:
        made = await create(server, model="b")
        path = f"{made['id']}/input_items"
        refused = {q: await error_of(server, "GET", f"{path}?{q}") for q in queries}

    assert {query: error["param"] for query, (_, error) in refused.items()} == queries
    assert {(status, error["code"]) for status, error in refused.values()} == {
        (400, "out_of_range")
    }


async def test_callers_see_their_own_responses_alone(tmp_path: Path) -> None:
    keys = KeyFile(tmp_path / "keys.json")
    mine, yours = (
        {"authorization": f"Bearer {keys.create(name, 'use')}"} for name in ("me", "you")
    )
    transport = httpx2.ASGITransport(app=create_app(gateway(), access=Access(keys=keys)))
    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as http:
        made = (await http.post(RESPONSES, json=ask(model="b"), headers=mine)).json()
        path = f"{RESPONSES}/{made['id']}"
        follow = ask(model="b", previous_response_id=made["id"])
        theirs = [
            await http.get(path, headers=yours),
            await http.delete(path, headers=yours),
            await http.get(f"{path}/input_items", headers=yours),
            await http.post(RESPONSES, json=follow, headers=yours),
        ]
        own = await http.get(path, headers=mine)

    assert [answer.status_code for answer in theirs] == [404] * 4
    assert own.json() == made


def response(id: str, text: str = "") -> StoredResponse:
    return StoredResponse({"id": id, "text": text}, [{"id": "msg_1"}])


def test_store_keeps_the_newest_of_too_many() -> None:
    store = MemoryStore(max_count=2)
    for id in "abc":
        store.put("me", response(id))

    assert store.get("me", "c") == response("c")
    assert store.get("me", "b") == response("b")
    with pytest.raises(Missing):
        store.get("me", "a")


def test_store_keeps_the_newest_of_too_large_ones() -> None:
    store = MemoryStore(max_bytes=1000)
    for id in "abc":
        store.put("me", response(id, "x" * 400))

    assert store.get("me", "b").body["text"] == "x" * 400
    with pytest.raises(Missing):
        store.get("me", "a")


def test_deletion_and_replacement_make_room() -> None:
    store = MemoryStore(max_bytes=1000)
    for _ in range(5):
        store.put("me", response("a", "x" * 400))
    store.put("me", response("b", "x" * 400))
    store.delete("me", "a")
    store.put("me", response("c", "x" * 400))

    assert store.get("me", "b") == response("b", "x" * 400)


def test_store_forgets_what_is_too_old() -> None:
    now = 0.0
    store = MemoryStore(max_age=10, clock=lambda: now)
    store.put("me", response("a"))
    now = 9.0
    store.put("me", response("b"))
    assert store.get("me", "a") == response("a")

    now = 10.0

    with pytest.raises(Missing):
        store.get("me", "a")
    assert store.get("me", "b") == response("b")


def test_response_of_another_owner_is_not_found() -> None:
    store = MemoryStore()
    store.put("me", response("a"))

    with pytest.raises(Missing) as theirs:
        store.get("you", "a")
    with pytest.raises(Missing) as nobodys:
        store.get("you", "b")
    with pytest.raises(Missing):
        store.delete("you", "a")

    assert str(theirs.value) == str(nobodys.value)
    assert store.get("me", "a") == response("a")


def test_stored_parts_are_nobody_elses() -> None:
    store = MemoryStore()
    body: dict[str, object] = {"id": "a", "output": [1]}
    store.put("me", StoredResponse(body, []))
    body["output"] = [2]

    assert store.get("me", "a").body["output"] == [1]


def test_models_broken_characters_are_stored() -> None:
    store = MemoryStore()
    store.put("me", response("a", "\ud800"))

    assert store.get("me", "a").body["text"] == "\ud800"
