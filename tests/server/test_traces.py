"""Traces over HTTP: listed, filtered, shown, exported, deleted; each key's own."""

import json
from pathlib import Path
from typing import Any

import httpx2
import pytest

from localfusion.engines.sim import SimEngine
from localfusion.server.access import Access
from localfusion.server.keys import KeyFile
from localfusion.traces import Traces, Versions
from localfusion.traces.exchange import read_lines
from localfusion.traces.form import to_json
from localfusion.types import Message, Origin, Request
from tests.server.system import CHAT, Served, SimGateway, body, gateway, on_disk, served, traced

TRACES = "/v1/traces"
INCLUDE: dict[str, Any] = {"fusion": {"include": []}}


async def run(system: SimGateway, text: str = "How many pens?", key: str = "") -> str:
    """Run a request as a caller's; its trace is on disk then, and its words can be searched."""
    request = Request("trio", (Message("user", text),), origin=Origin("req_1", key))
    answer = await system.fusion.complete(request)
    await on_disk(system, answer.run_id)
    return answer.run_id


async def get(server: Served, path: str = "", **query: object) -> Any:  # noqa: ANN401  JSON
    response = await server.http.get(f"{TRACES}{path}", params=query)  # type: ignore[arg-type]
    assert response.status_code == 200, response.text
    return response.json()


async def test_newest_are_listed_first_page_by_page(tmp_path: Path) -> None:
    async with traced(tmp_path) as server:
        ids = [await run(server.gateway, f"number {n}") for n in range(3)]
        first = await get(server, limit=2)
        second = await get(server, limit=2, cursor=first["next_cursor"])

    assert [trace["id"] for trace in first["data"]] == ids[:0:-1]
    assert (first["object"], first["has_more"]) == ("list", True)
    assert [trace["id"] for trace in second["data"]] == ids[:1]
    assert (second["has_more"], second["next_cursor"]) == (False, None)
    assert set(first["data"][0]) == {
        *("object", "id", "created", "request_id", "key", "preset", "policy", "model", "status"),
        *("reason", "question", "seconds", "prompt_tokens", "completion_tokens", "members"),
        *("judge", "replay_of"),
    }


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ({"q": "pens"}, 1),
        ({"q": "pens euros"}, 1),
        ({"q": "caps"}, 0),
        ({"status": "full"}, 1),
        ({"status": "failed"}, 0),
        ({"preset": "trio", "policy": "fuse", "model": "d"}, 1),
        ({"model": "a"}, 0),
    ],
)
async def test_list_is_filtered(tmp_path: Path, query: dict[str, str], count: int) -> None:
    async with traced(tmp_path) as server:
        await run(server.gateway)

        assert len((await get(server, **query))["data"]) == count


async def test_trace_has_all_that_happened(tmp_path: Path) -> None:
    async with traced(tmp_path) as server:
        id = await run(server.gateway)
        told = await get(server, f"/{id}")

    assert told["request"]["messages"][0]["content"] == "How many pens?"
    assert told["answer"]["text"] == "They cost 8 euros in all."
    assert told["events"][0]["type"] == "response.fusion_call.in_progress"
    assert told["events"][-1]["type"] == "response.fusion_call.completed"
    assert [p["stage"] for p in told["prompts"]] == ["panel"] * 3 + ["analysis", "synthesis"]
    assert told["prompts"][0]["messages"][-1]["content"] == "How many pens?"
    assert told["versions"]["localfusion"] == "0.1"
    assert (told["error"], told["ignored"], told["content"]) == (None, [], "full")


async def test_export_is_a_line_that_can_be_imported(tmp_path: Path) -> None:
    async with traced(tmp_path) as server:
        id = await run(server.gateway)
        response = await server.http.get(f"{TRACES}/{id}/export")
        told = await get(server, f"/{id}")

    assert response.headers["content-type"] == "application/x-ndjson"
    (trace,) = read_lines(response.content.splitlines())
    assert to_json(trace) == told


async def test_deleted_trace_is_gone(tmp_path: Path) -> None:
    async with traced(tmp_path) as server:
        id = await run(server.gateway)
        deleted = await server.http.delete(f"{TRACES}/{id}")
        again = await server.http.delete(f"{TRACES}/{id}")
        left = await get(server)

    assert deleted.json() == {"id": id, "object": "trace.deleted", "deleted": True}
    assert again.status_code == 404
    assert left["data"] == []


async def test_all_before_a_time_are_deleted(tmp_path: Path) -> None:
    async with traced(tmp_path) as server:
        await run(server.gateway)
        created = (await get(server))["data"][0]["created"]
        missing = await server.http.delete(TRACES)
        none = await server.http.delete(TRACES, params={"before": f"{created - 1:.3f}"})
        every = await server.http.delete(TRACES, params={"before": f"{created + 1:.3f}"})

    assert (missing.status_code, missing.json()["error"]["code"]) == (400, "missing_parameter")
    assert none.json() == {"object": "list.deleted", "deleted": 0}
    assert every.json() == {"object": "list.deleted", "deleted": 1}


@pytest.mark.threat(21)
@pytest.mark.malformed("M42")
async def test_key_sees_and_deletes_its_own_alone(tmp_path: Path) -> None:
    keys = KeyFile(tmp_path / "keys.json")
    secrets = {name: keys.create(name, "use") for name in ("ann", "bob")}
    secrets["ops"] = keys.create("ops", "admin")
    async with traced(tmp_path / "traces", access=Access(keys=keys)) as server:
        own, other = await run(server.gateway, "mine", "ann"), await run(server.gateway, key="bob")

        async def ask(name: str, method: str, path: str) -> httpx2.Response:
            headers = {"authorization": f"Bearer {secrets[name]}"}
            return await server.http.request(method, f"{TRACES}{path}", headers=headers)

        listed = {n: (await ask(n, "GET", "")).json()["data"] for n in secrets}
        refused = [
            await ask("ann", "GET", f"/{other}"),
            await ask("ann", "GET", f"/{other}/export"),
            await ask("ann", "DELETE", f"/{other}"),
            await ask("ann", "GET", f"/{'0' * 32}"),
        ]
        purged = await ask("ann", "DELETE", "?before=9999999999")
        seen = await ask("ops", "GET", f"/{other}")
        deleted = await ask("ann", "DELETE", f"/{own}")
        deleted_by_admin = await ask("ops", "DELETE", f"/{other}")

    assert {name: len(found) for name, found in listed.items()} == {"ann": 1, "bob": 1, "ops": 2}
    assert {response.status_code for response in refused} == {404}
    bodies = [response.json() for response in refused]
    assert all(body == bodies[0] for body in bodies)
    assert (purged.status_code, purged.json()["error"]["code"]) == (403, "insufficient_scope")
    assert seen.json()["key"] == "bob"
    assert (deleted.status_code, deleted_by_admin.status_code) == (200, 200)


@pytest.mark.malformed("M42")
@pytest.mark.parametrize(
    "id", ["..%2fx", "x", "%00", "A" * 32, "0" * 31, "0" * 33, "0" * 4000, "%F0%9F%98%80"]
)
async def test_odd_id_is_not_found(tmp_path: Path, id: str) -> None:
    async with traced(tmp_path) as server:
        usual = await server.http.get(f"{TRACES}/{'0' * 32}")
        shown = await server.http.get(f"{TRACES}/{id}")
        deleted = await server.http.delete(f"{TRACES}/{id}")

    assert (shown.status_code, deleted.status_code, usual.status_code) == (404, 404, 404)
    if "%2f" not in id:  # that is another address
        assert shown.json() == deleted.json() == usual.json()


@pytest.mark.malformed("M42")
@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("limit=-1", "out_of_range"),
        ("limit=0", "out_of_range"),
        ("limit=1000000000", "out_of_range"),
        ("limit=1&limit=2", "invalid_type"),
        ("limit=ten", "invalid_type"),
        ("limit=1e3", "invalid_type"),
        ("limit=%D9%A1", "invalid_type"),
        ("limit=" + "9" * 5000, "invalid_type"),
        ("cursor=x", "invalid_type"),
        ("cursor=-5", "out_of_range"),
        ("cursor=9223372036854775808", "out_of_range"),
        ("status=done", "out_of_range"),
        ("q=", "out_of_range"),
        ("q=%00", "out_of_range"),
        ("q=" + "x" * 513, "out_of_range"),
        ("q=a&q=b", "invalid_type"),
        ("preset=" + "x" * 129, "out_of_range"),
    ],
)
async def test_odd_query_is_refused(tmp_path: Path, query: str, code: str) -> None:
    async with traced(tmp_path) as server:
        response = await server.http.get(f"{TRACES}?{query}")

    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (400, code)
    assert error["param"] == query.partition("=")[0]


@pytest.mark.malformed("M42")
@pytest.mark.parametrize("q", ['"', '") OR ("', "NEAR(", "a AND", "question:x", "*", "'; DROP"])
async def test_search_has_no_syntax_to_break(tmp_path: Path, q: str) -> None:
    async with traced(tmp_path) as server:
        await run(server.gateway)

        assert (await get(server, q=q))["data"] == []


@pytest.mark.malformed("M42")
async def test_forged_cursor_shows_nothing_else(tmp_path: Path) -> None:
    async with traced(tmp_path) as server:
        await run(server.gateway)

        assert len((await get(server, cursor=2**63 - 1))["data"]) == 1
        assert (await get(server, cursor=1))["data"] == []


@pytest.mark.promise(12)
async def test_file_that_cannot_be_read_is_told_without_its_place(tmp_path: Path) -> None:
    (tmp_path / "traces.db").write_text("my diary " * 100)
    async with traced(tmp_path) as server:
        listed = await server.http.get(TRACES)
        deleted = await server.http.delete(f"{TRACES}/{'0' * 32}")
        answered = await server.http.post(
            "/v1/chat/completions",
            json={"model": "a", "messages": [{"role": "user", "content": "x"}]},
        )

    for response in (listed, deleted):
        assert (response.status_code, response.json()["error"]["code"]) == (503, "traces_damaged")
        assert str(tmp_path) not in response.text
    assert answered.status_code == 200


async def test_gateway_without_traces_lists_none() -> None:
    async with served() as server:
        assert (await get(server))["data"] == []
        assert (await server.http.get(f"{TRACES}/{'0' * 32}")).status_code == 404


async def test_run_that_goes_is_not_deleted(tmp_path: Path) -> None:
    async with traced(tmp_path) as server:
        engines = dict(server.gateway.engines) | {"a": SimEngine(delay=3600)}
        server.gateway.engines = engines
        server.gateway.observe(server.gateway.traces.observer(lambda _: Versions()))
        stream = server.gateway.fusion.stream(Request("trio", (Message("user", "?"),)))
        id = (await anext(stream)).run_id
        while not (await get(server))["data"]:
            pass
        refused = await server.http.delete(f"{TRACES}/{id}")
        await stream.aclose()

    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "trace_running")


def test_traces_are_described(tmp_path: Path) -> None:
    from localfusion.server.app import create_app

    document = create_app(gateway()).openapi()

    paths: dict[str, Any] = document["paths"]
    names = [parameter["name"] for parameter in paths[TRACES]["get"]["parameters"]]
    assert names == ["limit", "cursor", "q", "status", "preset", "policy", "model"]
    assert json.dumps(document)
    assert Traces().notes == ()


async def kept(server: Served, id: str | None) -> dict[str, Any]:
    assert id is not None
    told: dict[str, Any] = await get(server, f"/{id}")
    return told


@pytest.mark.promise(9)
async def test_answer_names_a_trace_that_is_there(tmp_path: Path) -> None:
    headers = {"x-request-id": "mine-7"}
    async with traced(tmp_path) as server:
        whole = await server.http.post(CHAT, json=body(**INCLUDE, odd=1), headers=headers)
        stream = await server.http.post(CHAT, json=body(stream=True, **INCLUDE))
        chunks = [json.loads(t[6:]) for t in stream.text.split("\n\n") if t.startswith("data: {")]
        closing = next(chunk["fusion"] for chunk in reversed(chunks) if "fusion" in chunk)
        first = await kept(server, whole.headers["x-localfusion-trace"])
        second = await kept(server, closing["trace_id"])

    assert whole.json()["fusion"]["trace_id"] == first["id"]
    assert (first["request_id"], first["ignored"]) == ("mine-7", ["odd"])
    assert second["request_id"] == stream.headers["x-request-id"]
    assert first["status"] == second["status"] == "full"


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("/v1/responses", {"model": "trio", "input": "How many?", "store": False, "odd": 1}),
        (
            "/v1/messages",
            {
                "model": "trio",
                "max_tokens": 50,
                "messages": [{"role": "user", "content": "How many?"}],
                "odd": 1,
            },
        ),
        ("/v1/completions", {"model": "a", "prompt": "How many?", "odd": 1}),
    ],
)
async def test_every_api_keeps_its_runs(
    tmp_path: Path, path: str, asked: dict[str, object]
) -> None:
    async with traced(tmp_path) as server:
        response = await server.http.post(path, json=asked)
        assert response.status_code == 200, response.text
        told = await kept(server, response.headers["x-localfusion-trace"])

    assert told["question"] == "How many?"
    assert told["ignored"] == ["odd"]
    assert told["answer"]["text"]


@pytest.mark.promise(9)
async def test_trace_that_is_not_kept_is_not_named(tmp_path: Path) -> None:
    """A file that nobody can write: answers go on, and say that they left no trace."""
    (tmp_path / "traces.db").write_text("my diary " * 100)
    async with traced(tmp_path) as server:
        whole = await server.http.post(CHAT, json=body(**INCLUDE))
        stream = await server.http.post(CHAT, json=body(stream=True, **INCLUDE))

    assert whole.json()["fusion"]["trace_id"] is None
    assert "x-localfusion-trace" not in whole.headers
    assert '"trace_id":null' in stream.text.replace(" ", "")
    assert stream.text.endswith("data: [DONE]\n\n")


@pytest.mark.malformed("M25")
@pytest.mark.parametrize(
    ("path", "asked"),
    [
        (CHAT, body(**INCLUDE)),
        (CHAT, body(stream=True, **INCLUDE)),
        (
            "/v1/messages",
            {
                "model": "trio",
                "max_tokens": 50,
                "messages": [{"role": "user", "content": "How many?"}],
                **INCLUDE,
            },
        ),
    ],
)
async def test_ignored_fields_are_told_in_block_header_and_trace(
    tmp_path: Path, path: str, asked: dict[str, object]
) -> None:
    async with traced(tmp_path) as server:
        response = await server.http.post(path, json={**asked, "odd": 1, "colour": "red"})
        texts = [line.removeprefix("data: ") for line in response.text.splitlines()]
        parts = [json.loads(text) for text in texts if text.startswith("{")]
        blocks = [part["fusion"] for part in parts if part.get("fusion")]
        told = await kept(server, blocks[-1]["trace_id"])

    assert response.headers["x-localfusion-ignored"] == "odd,colour"
    assert blocks[-1]["ignored"] == told["ignored"] == ["odd", "colour"]


async def test_run_whose_client_leaves_is_interrupted(tmp_path: Path) -> None:
    async with traced(tmp_path, gateway(d=SimEngine(delay=3600))) as server:
        with pytest.raises(httpx2.ReadTimeout):
            await server.http.post(CHAT, json=body(), timeout=0.5)
        while not (found := (await get(server, status="interrupted"))["data"]):
            pass

    assert found[0]["reason"] == "cancelled"


async def test_trace_says_whose_key_it_was(tmp_path: Path) -> None:
    keys = KeyFile(tmp_path / "keys.json")
    headers = {"authorization": f"Bearer {keys.create('ann', 'use')}"}
    async with traced(tmp_path / "traces", access=Access(keys=keys)) as server:
        response = await server.http.post(CHAT, json=body(), headers=headers)
        path = f"{TRACES}/{response.headers['x-localfusion-trace']}"
        told = (await server.http.get(path, headers=headers)).json()

    assert told["key"] == "ann"
