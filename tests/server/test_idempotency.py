"""Requests that are sent again with an idempotency key: one run, one answer for whoever listens."""

import asyncio
from pathlib import Path
from typing import Literal

import pytest
from starlette.types import Message, Scope, Send

from localfusion.engines.sim import SimEngine, SimFailure
from localfusion.server import idempotency
from localfusion.server.access import Access
from localfusion.server.idempotency import KeptReplies
from localfusion.server.keys import KeyFile
from tests.server.system import CHAT, body, gateway, served, traced

pytestmark = [pytest.mark.promise(8), pytest.mark.malformed("M39")]

KEY = {"idempotency-key": "once"}


async def test_answer_is_given_again_byte_for_byte(tmp_path: Path) -> None:
    async with traced(tmp_path) as server:
        first = await server.http.post(CHAT, json=body(), headers=KEY)
        calls = server.gateway.calls
        again = await server.http.post(CHAT, json=body(), headers=KEY)

    assert first.content == again.content
    assert server.gateway.calls == calls
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    assert again.headers["x-localfusion-trace"] == first.headers["x-localfusion-trace"]
    assert again.headers["x-request-id"] != first.headers["x-request-id"]


async def test_stream_is_given_again_byte_for_byte() -> None:
    async with served() as server:
        first = await server.http.post(CHAT, json=body(stream=True), headers=KEY)
        again = await server.http.post(CHAT, json=body(stream=True), headers=KEY)

    assert first.content == again.content
    assert first.text.endswith("data: [DONE]\n\n")
    assert again.headers["idempotent-replayed"] == "true"


@pytest.mark.parametrize("stream", [False, True])
async def test_answer_is_given_again_by_the_next_process(tmp_path: Path, stream: bool) -> None:
    async with traced(tmp_path) as server:
        first = await server.http.post(CHAT, json=body(stream=stream), headers=KEY)
    async with traced(tmp_path) as server:
        again = await server.http.post(CHAT, json=body(stream=stream), headers=KEY)
        other = await server.http.post(CHAT, json=body("Another?"), headers=KEY)
        calls = server.gateway.calls

    assert calls == 0
    assert again.content == first.content
    assert again.headers["idempotent-replayed"] == "true"
    assert again.headers["content-type"] == first.headers["content-type"]
    assert (other.status_code, other.json()["error"]["code"]) == (409, "idempotency_key_reused")


async def test_answer_that_broke_off_is_tried_again_by_the_next_process(tmp_path: Path) -> None:
    dying = SimEngine("They cost 8 euros in all.", failure=SimFailure("die", at_token=3))
    system = gateway(d=dying, preset={"options": {"analysis": "none"}})
    async with traced(tmp_path, system) as server:
        first = await server.http.post(CHAT, json=body(stream=True), headers=KEY)
    async with traced(tmp_path) as server:
        again = await server.http.post(CHAT, json=body(stream=True), headers=KEY)

    assert (first.status_code, '"error"' in first.text) == (200, True)
    assert '"error"' not in again.text
    assert again.text.endswith("data: [DONE]\n\n")
    assert "idempotent-replayed" not in again.headers


@pytest.mark.parametrize("content", ["hash", "none"])
async def test_answer_whose_texts_are_not_kept_goes_with_the_process(
    tmp_path: Path, content: Literal["hash", "none"]
) -> None:
    async with traced(tmp_path, content=content) as server:
        await server.http.post(CHAT, json=body(), headers=KEY)
    async with traced(tmp_path, content=content) as server:
        await server.http.post(CHAT, json=body(), headers=KEY)

        assert server.gateway.calls == 5


async def test_deleted_trace_takes_its_answer_with_it(tmp_path: Path) -> None:
    async with traced(tmp_path) as server:
        first = await server.http.post(CHAT, json=body(), headers=KEY)
        id = first.headers["x-localfusion-trace"]
        assert (await server.http.delete(f"/v1/traces/{id}")).is_success
    async with traced(tmp_path) as server:
        again = await server.http.post(CHAT, json=body(), headers=KEY)

    assert "idempotent-replayed" not in again.headers


@pytest.mark.parametrize("stream", [False, True])
async def test_requests_at_the_same_time_are_one_run(stream: bool) -> None:
    system = gateway(a=SimEngine("Eighteen.", delay=0.05))
    async with served(system) as server, asyncio.TaskGroup() as group:
        request = body(model="a", stream=stream)
        asked = [
            group.create_task(server.http.post(CHAT, json=request, headers=KEY)) for _ in range(4)
        ]

    assert len({task.result().content for task in asked}) == 1
    assert asked[0].result().status_code == 200
    assert system.calls == 1


async def test_another_body_is_refused() -> None:
    async with served() as server:
        await server.http.post(CHAT, json=body("How many?"), headers=KEY)
        other = await server.http.post(CHAT, json=body("How much?"), headers=KEY)

    assert other.status_code == 409
    assert other.json()["error"]["code"] == "idempotency_key_reused"
    assert other.headers["x-should-retry"] == "false"


async def test_key_belongs_to_its_route_and_its_caller(tmp_path: Path) -> None:
    keys = KeyFile(tmp_path / "keys.json")
    names = ("ann", "bob")
    callers = [{"authorization": f"Bearer {keys.create(name, 'use')}", **KEY} for name in names]
    async with traced(tmp_path / "traces", access=Access(keys=keys)) as server:
        mine, theirs = [
            await server.http.post(CHAT, json=body(), headers=caller) for caller in callers
        ]
        request = {"model": "a", "input": "How many?", "store": False}
        elsewhere = await server.http.post("/v1/responses", json=request, headers=callers[0])

    assert [mine.status_code, theirs.status_code, elsewhere.status_code] == [200, 200, 200]
    assert mine.headers["x-localfusion-trace"] != theirs.headers["x-localfusion-trace"]


@pytest.mark.parametrize("stream", [False, True])
async def test_failure_is_not_kept(stream: bool) -> None:
    fails = iter([SimFailure("refuse"), None])
    system = gateway(a=SimEngine("Eighteen.", failure=lambda _: next(fails)))
    async with served(system) as server:
        request = body(model="a", stream=stream)
        first = await server.http.post(CHAT, json=request, headers=KEY)
        again = await server.http.post(CHAT, json=request, headers=KEY)

    assert (first.status_code, again.status_code) == (503, 200)
    assert "idempotent-replayed" not in again.headers


@pytest.mark.parametrize("key", ["", "x" * 256, "\u00e4", "a\tb"])
async def test_odd_key_is_refused(key: str) -> None:
    async with served() as server:
        headers = [(b"idempotency-key", key.encode("latin-1"))]
        answer = await server.http.post(CHAT, json=body(), headers=headers)

    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "idempotency-key"
    assert server.gateway.calls == 0


async def test_two_keys_are_refused() -> None:
    async with served() as server:
        headers = [(b"idempotency-key", b"a"), (b"idempotency-key", b"b")]
        answer = await server.http.post(CHAT, json=body(), headers=headers)

    assert answer.status_code == 400


class Asked:
    """Sends requests to a store of answers, without a server around it."""

    def __init__(self) -> None:
        self.now = 0.0
        self.kept = KeptReplies(clock=lambda: self.now)
        self.may_end = asyncio.Event()
        self.may_end.set()
        self.worked = 0
        self.cancelled = 0

    async def ask(self, key: str, size: int = 10, leaves: asyncio.Event | None = None) -> bytes:
        """Return what the client got until it left, at the latest when ``leaves`` is set."""
        sent: list[Message] = []
        leaves = leaves or asyncio.Event()

        async def work(write: Send) -> bool:
            self.worked += 1
            await write({"type": "http.response.start", "status": 200, "headers": []})
            try:
                await self.may_end.wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
            await write({"type": "http.response.body", "body": b"x" * size, "more_body": False})
            return True

        async def send(message: Message) -> None:
            sent.append(message)

        async def receive() -> Message:
            await leaves.wait()
            return {"type": "http.disconnect"}

        scope: Scope = {"path": "/", "headers": [], "state": {"digest": "d"}}
        await self.kept.share(key, scope, receive, send, work)
        return b"".join(message.get("body", b"") for message in sent)


@pytest.mark.virtual_time
@pytest.mark.parametrize("leaver", [0, 1])
async def test_run_goes_on_for_those_who_still_listen(leaver: int) -> None:
    asked, leaving = Asked(), [asyncio.Event(), asyncio.Event()]
    asked.may_end.clear()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(asked.ask("a", leaves=leaves)) for leaves in leaving]
        await asyncio.sleep(0.01)
        leaving[leaver].set()
        await asyncio.sleep(0.01)
        asked.may_end.set()

    assert tasks[leaver].result() == b""
    assert tasks[1 - leaver].result() == b"x" * 10
    assert (asked.worked, asked.cancelled) == (1, 0)


@pytest.mark.virtual_time
async def test_run_ends_when_nobody_listens_any_more() -> None:
    asked, leave = Asked(), asyncio.Event()
    asked.may_end.clear()
    async with asyncio.TaskGroup() as group:
        for _ in range(2):
            group.create_task(asked.ask("a", leaves=leave))
        await asyncio.sleep(0.01)
        leave.set()

    assert asked.cancelled == 1
    asked.may_end.set()
    assert await asked.ask("a") == b"x" * 10
    assert asked.worked == 2


async def test_answer_is_kept_for_ten_minutes() -> None:
    asked = Asked()
    await asked.ask("a")
    asked.now = 600
    await asked.ask("a")
    asked.now = 601
    await asked.ask("a")

    assert asked.worked == 2


async def test_oldest_answers_leave_where_there_are_too_many_or_too_much() -> None:
    asked = Asked()
    for number in range(idempotency.MOST_ENTRIES + 1):
        asked.now += 0.1
        await asked.ask(str(number))
    many = asked.worked
    await asked.ask(str(idempotency.MOST_ENTRIES))
    kept = asked.worked
    await asked.ask("0")
    oldest_left = asked.worked
    await asked.ask("large", idempotency.MOST_BYTES - 100)
    await asked.ask(str(idempotency.MOST_ENTRIES // 2))

    assert many == kept == idempotency.MOST_ENTRIES + 1
    assert oldest_left == many + 1
    assert asked.worked == oldest_left + 2


@pytest.mark.virtual_time
async def test_who_asks_again_while_the_run_still_cleans_up_begins_another() -> None:
    kept, gone, worked = KeptReplies(), asyncio.Event(), list[str]()

    async def slow(write: Send) -> bool:
        worked.append("first")
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(5)  # an engine's stream closes
        return True

    async def good(write: Send) -> bool:
        worked.append("second")
        await write({"type": "http.response.start", "status": 200, "headers": []})
        await write({"type": "http.response.body", "body": b"8"})
        return True

    async def leave() -> Message:
        await gone.wait()
        return {"type": "http.disconnect"}

    async def stay() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    scope: Scope = {"path": "/", "headers": [], "state": {"digest": "d"}}
    async with asyncio.TaskGroup() as group:
        group.create_task(kept.share("k", scope, leave, send, slow))
        await asyncio.sleep(1)
        gone.set()
        await asyncio.sleep(1)
        await kept.share("k", scope, stay, send, good)

    assert worked == ["first", "second"]
    assert sent[-1]["body"] == b"8"
    await kept.share("k", scope, stay, send, good)
    assert worked == ["first", "second"]
