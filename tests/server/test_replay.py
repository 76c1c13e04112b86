"""Replays over HTTP: what they answer, whose traces they may read, what they refuse."""

from pathlib import Path
from typing import Any

import pytest

from localfusion.engines.sim import SimEngine
from localfusion.server.access import Access
from localfusion.server.keys import KeyFile
from tests.server.system import Served, gateway, traced
from tests.server.test_traces import TRACES, get, run


async def replay(server: Served, id: str, **changes: object) -> Any:  # noqa: ANN401  JSON
    response = await server.http.post(f"{TRACES}/{id}/replay", json=changes)
    assert response.status_code == 200, response.text
    return response.json()


async def test_replay_has_both_answers_and_leaves_a_marked_trace(tmp_path: Path) -> None:
    system = gateway(
        d=SimEngine(["{}", "{}", "They cost 8 euros.", "{}", "{}", "They cost 9 euros."])
    )
    async with traced(tmp_path, system) as server:
        id = await run(system)
        asked = [len(system.engines[name].calls) for name in "abc"]
        told = await replay(server, id, order="reversed", drop=["a"])
        kept = await get(server, f"/{told['id']}")
        listed = (await get(server))["data"]

    assert [len(system.engines[name].calls) for name in "abc"] == asked == [1, 1, 1]
    assert (told["object"], told["replay_of"]) == ("trace.replay", id)
    assert told["changes"] == {"order": "reversed", "drop": [0]}
    assert told["original"]["answer"]["text"] == "They cost 8 euros."
    assert told["answer"]["text"] == "They cost 9 euros."
    assert told["answer"]["status"] == "degraded"
    assert {part["kind"] for part in told["diff"]} == {"same", "gone", "new"}
    assert (kept["replay_of"], kept["request"]["changes"]) == (id, told["changes"])
    assert [trace["replay_of"] for trace in listed] == [id, None]


async def test_replay_with_an_empty_body_changes_nothing(tmp_path: Path) -> None:
    async with traced(tmp_path) as server:
        id = await run(server.gateway)
        told = await replay(server, id)

    assert told["changes"] == {}
    assert told["answer"]["text"] == told["original"]["answer"]["text"]
    assert [part["kind"] for part in told["diff"]] == ["same"]


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({"judge": "nobody"}, 404, "judge"),
        ({"judge": 7}, 400, "judge"),
        ({"policy": "layered"}, 400, "policy"),
        ({"policy": "fus"}, 400, "policy"),
        ({"order": "upwards"}, 400, "order"),
        ({"drop": ["z"]}, 400, "drop"),
        ({"drop": [0, 1, 2]}, 400, "drop"),
        ({"drop": [-1]}, 400, "drop"),
        ({"drop": "a"}, 400, "drop"),
        ({"prompt": "Say yes."}, 400, "prompt"),
    ],
)
async def test_odd_replay_is_refused_with_field_and_remedy(
    tmp_path: Path, body: dict[str, object], status: int, param: str
) -> None:
    async with traced(tmp_path) as server:
        id = await run(server.gateway)
        response = await server.http.post(f"{TRACES}/{id}/replay", json=body)
        calls = server.gateway.calls

    error = response.json()["error"]
    assert (response.status_code, error["param"]) == (status, param), error
    assert error["metadata"]["remedy"]
    assert calls == 5  # the run's own


async def test_key_replays_its_own_traces_alone(tmp_path: Path) -> None:
    keys = KeyFile(tmp_path / "keys.json")
    headers = {n: {"authorization": f"Bearer {keys.create(n, 'use')}"} for n in ("ann", "bob")}
    async with traced(tmp_path / "traces", access=Access(keys=keys)) as server:
        id = await run(server.gateway, key="ann")
        path = f"{TRACES}/{id}/replay"
        own = await server.http.post(path, json={}, headers=headers["ann"])
        others = await server.http.post(path, json={}, headers=headers["bob"])
        nobodys = await server.http.post(path, json={})
        kept = await server.http.get(f"{TRACES}/{own.json()['id']}", headers=headers["ann"])

    assert (own.status_code, others.status_code, nobodys.status_code) == (200, 404, 401)
    assert kept.json()["key"] == "ann"


async def test_judge_that_fails_before_its_first_word_leaves_a_draft(tmp_path: Path) -> None:
    async with traced(tmp_path) as server:
        id = await run(server.gateway)
        server.gateway.engines["d"].kill()
        told = await replay(server, id)

    assert told["answer"]["status"] == "panel_only"


async def test_stopping_server_takes_no_replay(tmp_path: Path) -> None:
    async with traced(tmp_path) as server:
        id = await run(server.gateway)
        server.gateway.draining = True
        response = await server.http.post(f"{TRACES}/{id}/replay", json={})

    assert (response.status_code, response.json()["error"]["code"]) == (503, "draining")


async def test_explanation_without_replays_asks_nobody(tmp_path: Path) -> None:
    async with traced(tmp_path) as server:
        id = await run(server.gateway)
        calls = server.gateway.calls
        read = await get(server, f"/{id}/explain")
        path = f"{TRACES}/{id}/explain"
        sent = await server.http.post(path, json={"replays": False, "expect": "8 euros"})

    assert (read["object"], read["id"], read["replays"]) == ("trace.explanation", id, [])
    assert read["sentences"][0]["support"][0]["model"] == "b"
    assert (sent.json()["verdict"], sent.json()["is_right"]) == ("none", True)
    assert server.gateway.calls == calls


async def test_explanation_with_replays_asks_the_judge_alone(tmp_path: Path) -> None:
    async with traced(tmp_path) as server:
        id = await run(server.gateway)
        asked = [len(server.gateway.engines[name].calls) for name in "abc"]
        response = await server.http.post(f"{TRACES}/{id}/explain", json={"expect": "Twelve"})
        told = response.json()
        kept = await get(server, f"/{told['replays'][1]['trace_id']}")

    assert response.status_code == 200, told
    assert [len(server.gateway.engines[name].calls) for name in "abc"] == asked
    assert [r["kind"] for r in told["replays"]] == ["repeat", *["without"] * 3, "reversed"]
    assert told["verdict"] == "judge"
    assert told["evidence"][0] == "1 of 3 drafts have the expected answer: c"
    assert (kept["replay_of"], kept["request"]["changes"]) == (id, {"drop": [0]})


@pytest.mark.parametrize(
    ("body", "param"),
    [({"expect": ""}, "expect"), ({"expect": 8}, "expect"), ({"judge": "d"}, "judge")],
)
async def test_odd_explanation_is_refused_with_field_and_remedy(
    tmp_path: Path, body: dict[str, object], param: str
) -> None:
    async with traced(tmp_path) as server:
        id = await run(server.gateway)
        response = await server.http.post(f"{TRACES}/{id}/explain", json=body)

    error = response.json()["error"]
    assert (response.status_code, error["param"]) == (400, param)
    assert error["metadata"]["remedy"]


async def test_key_explains_its_own_traces_alone(tmp_path: Path) -> None:
    keys = KeyFile(tmp_path / "keys.json")
    headers = {n: {"authorization": f"Bearer {keys.create(n, 'use')}"} for n in ("ann", "bob")}
    async with traced(tmp_path / "traces", access=Access(keys=keys)) as server:
        id = await run(server.gateway, key="ann")
        path = f"{TRACES}/{id}/explain"
        found = {name: await server.http.get(path, headers=headers[name]) for name in headers}
        sent = await server.http.post(path, json={}, headers=headers["bob"])

    assert {name: response.status_code for name, response in found.items()} == {
        "ann": 200,
        "bob": 404,
    }
    assert sent.status_code == 404


async def test_trace_without_a_panel_is_refused_with_the_remedy(tmp_path: Path) -> None:
    system = gateway(preset={"policy": "single", "judge": None, "options": {}})
    async with traced(tmp_path, system) as server:
        id = await run(system)
        found = [
            await server.http.post(f"{TRACES}/{id}/replay", json={}),
            await server.http.post(f"{TRACES}/{id}/explain", json={}),
            await server.http.get(f"{TRACES}/{id}/explain"),
        ]

    for response in found:
        error = response.json()["error"]
        assert (response.status_code, error["code"]) == (400, "trace_not_replayable")
        assert error["metadata"]["remedy"] == "ask a preset with a panel"


async def test_explanation_ends_with_a_stopping_server(tmp_path: Path) -> None:
    async with traced(tmp_path) as server:
        id = await run(server.gateway)
        server.gateway.draining = True
        response = await server.http.post(f"{TRACES}/{id}/explain", json={})

    assert (response.status_code, response.json()["error"]["code"]) == (503, "draining")
