"""``/tokenize``: a count by the engines, without a run."""

from collections.abc import Mapping

import pytest

from localfusion.engines.sim import SimEngine
from localfusion.errors import RequestError
from localfusion.functions import Tools
from tests.server.system import CHAT, body, gateway, served

ASK = {"model": "a", "messages": [{"role": "user", "content": "How many pens?"}]}
LOOK = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}


async def test_conversation_is_counted_and_nothing_runs() -> None:
    system = gateway(b=SimEngine(max_model_len=512))
    async with served(system) as server:
        plain = await server.http.post("/tokenize", json=ASK)
        with_tools = await server.http.post("/tokenize", json={**ASK, "tools": [LOOK]})
        preset = await server.http.post("/tokenize", json={**ASK, "model": "localfusion/trio"})

    assert plain.json()["max_model_len"] == 4096
    assert 0 < plain.json()["count"] < with_tools.json()["count"]
    assert preset.json() == {"count": plain.json()["count"], "max_model_len": 512}
    assert system.calls == 0


@pytest.mark.parametrize(
    ("change", "status", "param"),
    [
        ({"model": "nobody"}, 404, "model"),
        ({"messages": []}, 400, "messages"),
        ({"messages": [{"role": "user", "content": 3}]}, 400, "messages[0].content"),
    ],
)
async def test_what_is_wrong_is_named(
    change: Mapping[str, object], status: int, param: str
) -> None:
    async with served() as server:
        answer = await server.http.post("/tokenize", json={**ASK, **change})

    assert answer.status_code == status
    assert answer.json()["error"]["param"] == param


@pytest.mark.parametrize("prompt", ["x", [1, 2, 3]])
async def test_prompt_that_is_no_conversation_is_refused_with_what_to_send(prompt: object) -> None:
    async with served() as server:
        answer = await server.http.post("/tokenize", json={"model": "a", "prompt": prompt})

    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (400, "unsupported_parameter")
    assert error["message"].startswith("prompt is not supported; send messages")


class Picky(SimEngine):
    """Its chat template refuses every conversation."""

    async def count_tokens(self, messages: object, tools: Tools | None = None) -> int:
        raise RequestError("roles must alternate", param="messages")


@pytest.mark.parametrize("path", ["/tokenize", CHAT])
async def test_conversation_that_an_engine_refuses_is_the_clients_matter(path: str) -> None:
    system = gateway(a=Picky("8", name="a"))
    async with served(system) as server:
        asked = ASK if path == "/tokenize" else body(model="a")
        answer = await server.http.post(path, json=asked)

    assert answer.status_code == 400
    assert "roles must alternate" in answer.json()["error"]["message"]
