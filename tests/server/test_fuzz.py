"""Broken bodies: each is answered or refused, none is a fault of ours or hangs.

Another client streams meanwhile and must not notice. What hangs meets the client's time limit.
``FUZZ_BODIES=10000`` sends as many as docs/threats.md tells of.
"""

import copy
import json
import os
from collections.abc import AsyncIterator, Iterator

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from localfusion.engines.sim import SimEngine
from localfusion.server.fields import REFUSED, ChatBody
from localfusion.server.forms import FusionOptions
from tests.server.neighbor import neighbor
from tests.server.system import CHAT, Served, body, gateway, served

pytestmark = [pytest.mark.threat(9), pytest.mark.threat(10), pytest.mark.promise(16)]

BATCH = 32
EXAMPLES = int(os.environ.get("FUZZ_BODIES", "256")) // BATCH

TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
CALL = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
SCHEMA = {
    "type": "object",
    "properties": {"a": {"$ref": "#/$defs/b"}, "c": {"enum": [1, "x"]}},
    "required": ["a"],
    "$defs": {"b": {"type": "array", "items": {"type": "string", "pattern": "^x*$"}}},
}
SEEDS: list[dict[str, object]] = [
    body(model="a", n=2, logprobs=True, top_logprobs=2, seed=1, stop=["."]),
    body(model="a", stream=True, stream_options={"include_usage": True}, temperature=0.5),
    body(fusion={"panel": ["a", {"model": "b", "n": 2}], "model": "d", "include": ["timing"]}),
    body(fusion={"analysis_models": ["a"], "quorum": 1, "order": "fixed", "policy": "fuse"}),
    body(
        fusion={
            "policy": "vote",
            "extract": {"kind": "regex", "pattern": "(8)"},
            "reasoning": {"effort": "low"},
        }
    ),
    body(plugins=[{"id": "fusion", "max_tool_calls": 3, "enabled": True}]),
    body(model="d", tools=[TOOL, {"type": "openrouter:fusion", "parameters": {"model": "d"}}]),
    body(tools=[TOOL], tool_choice={"type": "function", "function": {"name": "look"}}),
    body(
        response_format={"type": "json_schema", "json_schema": {"name": "f", "schema": SCHEMA}},
        max_tokens=30,
    ),
    body(
        model="a",
        messages=[
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "x"}], "name": "ann"},
            {"role": "assistant", "content": None, "tool_calls": [CALL]},
            {"role": "tool", "tool_call_id": "c1", "content": "8"},
        ],
        metadata={"k": "v"},
        logit_bias={"5": 1.5},
    ),
]

# A deadline that a busy machine misses is a 504 by right.
NAMES = sorted({*ChatBody.model_fields, *REFUSED, *FusionOptions.model_fields} - {"deadline_ms"})
WORDS = ["a", "d", "trio", "user", "tool", "function", "fusion", "look", "#", "#/$defs/b", "vote"]
NUMBERS = [-1, 0, 1, 2, 8, 9, 16, 2**31, 2**63 - 1, 2**63, 10**30, 0.5, 1e308, -1e308]
SCALARS = (
    st.none()
    | st.booleans()
    | st.sampled_from(NUMBERS)
    | st.sampled_from([*WORDS, "", "\0", "\ud800", "<|im_end|>", "x" * 700, "../../etc/passwd"])
    | st.text(max_size=6)
)
JSON = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*NAMES, "type", "model", "x"]), inner, max_size=3)
    ),
    max_leaves=6,
)


def places(value: object) -> Iterator[tuple[dict[str, object] | list[object], str | int]]:
    """Name everything in a document that can be replaced, as container and key."""
    inner = value.items() if isinstance(value, dict) else enumerate(value)  # type: ignore[arg-type]  # a list
    for key, part in inner:
        assert isinstance(value, dict | list)
        yield value, key
        if isinstance(part, dict | list):
            yield from places(part)


@st.composite
def documents(draw: st.DrawFn) -> dict[str, object]:
    """Draw a sound body with one to three faults in it."""
    document = copy.deepcopy(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(1, 3))):
        fault = draw(st.sampled_from(["replace", "replace", "remove", "add"]))
        holder, key = draw(st.sampled_from(list(places(document)) or [(document, "x")]))
        if fault == "add":
            document[draw(st.sampled_from(NAMES))] = draw(JSON)
        elif fault == "remove":
            del holder[key]  # type: ignore[arg-type]  # a key of that container
        else:
            holder[key] = draw(JSON)  # type: ignore[index]  # a key of that container
    return document


@st.composite
def texts(draw: st.DrawFn) -> bytes:
    """Draw the text of a body, sometimes with a piece cut out or put in."""
    raw = json.dumps(draw(documents())).encode()
    if draw(st.booleans()):
        return raw
    start, length = draw(st.integers(0, len(raw))), draw(st.integers(0, 9))
    piece = draw(st.binary(max_size=3) | st.sampled_from([b"{", b"[" * 99, b'"', b",", b"NaN"]))
    return raw[:start] + piece + raw[start + length :]


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def server() -> AsyncIterator[Served]:
    # Texts that are JSON, so that the simulation obeys no schema but those of functions.
    sims = {name: SimEngine("8", name=name) for name in "abd"}
    sims["c"] = SimEngine("12", name="c", delay=0.02)  # paced, for the neighbor asks it on end
    async with served(gateway(engines=sims)) as server, neighbor(server):
        yield server


async def check_answer(server: Served, raw: bytes) -> None:
    """Send a body; the answer is a whole one or a refusal that names its code."""
    headers = {"content-type": "application/json"}
    answer = await server.http.post(CHAT, content=raw, headers=headers)
    told = f"{raw!r}\n{answer.text}"
    if answer.status_code == 200:
        if answer.headers["content-type"].startswith("text/event-stream"):
            assert answer.text.endswith("data: [DONE]\n\n"), told
        return
    assert 400 <= answer.status_code < 500, told
    error = answer.json()["error"]
    assert error["type"] == "invalid_request_error", told
    assert error["code"] not in (None, "internal_error"), told


@given(st.lists(texts(), min_size=BATCH, max_size=BATCH))
@settings(
    max_examples=EXAMPLES,
    phases=[Phase.generate],  # the message names the body; making it smaller takes minutes
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
async def test_any_body_is_answered_or_refused(server: Served, bodies: list[bytes]) -> None:
    for raw in bodies:
        await check_answer(server, raw)
