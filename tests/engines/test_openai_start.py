"""What OpenAIEngine learns of its server: facts, counts, figures."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from localfusion.engines.base import MISCONFIGURED, EngineFacts, ManagedEngine, Phase
from localfusion.engines.openai import (
    DEFAULT_MAX_MODEL_LEN,
    OpenAIEngine,
)
from localfusion.errors import (
    EngineError,
    EngineStartError,
)
from tests.engines.kinds import PROMPT, collect
from tests.engines.raw_server import (
    DONE,
    FINISH,
    Asked,
    RawServer,
    event_stream,
    models,
    response,
    says,
)

CHAT = "/v1/chat/completions"


def serve_vllm(server: RawServer) -> None:
    entry = {"id": "a", "owned_by": "vllm", "max_model_len": 2048, "root": "/srv/weights/a"}
    server.answer("/v1/models", models(entry))
    server.answer("/version", response(200, '{"version": "0.32.0"}'))
    server.stream(says("x"), FINISH, DONE)


async def started(engine: OpenAIEngine) -> list[Phase]:
    phases: list[Phase] = []
    await engine.start(lambda change: phases.append(change.phase))
    return phases


async def test_start_learns_the_facts_and_hears_one_token(
    server: RawServer, engine: OpenAIEngine
) -> None:
    serve_vllm(server)

    phases = await started(engine)

    assert isinstance(engine, ManagedEngine)
    assert phases == ["checking", "ready"]
    assert engine.is_ready
    assert engine.facts == EngineFacts(2048, "0.32.0", supports_priority=True, calls_tools=True)
    assert server.asked[-1].body["max_tokens"] == 1


def takes(*refused: str) -> Callable[[Asked], bytes]:
    """Play a server that refuses requests with any of these fields."""

    def answer(asked: Asked) -> bytes:
        if found := [field for field in refused if field in asked.body]:
            return response(400, json.dumps({"error": {"message": f"{found} not supported"}}))
        return event_stream(FINISH, DONE)

    return answer


@pytest.mark.parametrize(
    ("refused", "sent"),
    [
        ((), {"priority", "chat_template_kwargs"}),
        (("priority",), {"chat_template_kwargs"}),
        (("chat_template_kwargs",), {"priority"}),
        (("priority", "chat_template_kwargs"), set()),
    ],
)
async def test_hints_that_a_vllm_refuses_at_its_start_are_left_out_afterwards(
    server: RawServer, engine: OpenAIEngine, refused: tuple[str, ...], sent: set[str]
) -> None:
    serve_vllm(server)
    server.answer(CHAT, takes(*refused))

    await started(engine)
    await collect(engine, replace(PROMPT, priority=10, effort="none"))

    assert engine.facts.supports_priority == ("priority" in sent)
    assert {"priority", "chat_template_kwargs"} & set(server.asked[-1].body) == sent


@pytest.mark.parametrize("refused", ["reasoning_effort", "nothing"])
async def test_server_of_another_kind_gets_the_hint_that_it_takes(
    server: RawServer, engine: OpenAIEngine, refused: str
) -> None:
    server.answer("/v1/models", models({"id": "a"}))
    server.answer(CHAT, takes(refused))

    await started(engine)
    await collect(engine, replace(PROMPT, priority=10, effort="none"))

    sent = {"reasoning_effort"} - {refused}
    assert {"reasoning_effort", "priority", "chat_template_kwargs"} & set(
        server.asked[-1].body
    ) == sent


async def test_server_that_refuses_everything_fails_the_start(
    server: RawServer, engine: OpenAIEngine
) -> None:
    serve_vllm(server)
    server.answer(CHAT, takes("messages"))

    with pytest.raises(EngineStartError, match="messages"):
        await started(engine)


CACHE_LABELS = (
    'vllm:cache_config_info{{_block_size_resolved="True",block_size="{}",cache_dtype="auto",'
    'enable_prefix_caching="{}",engine="0",layout="a \\"b\\" {{c}}",mamba_block_size="None"}} 1.0\n'
)


@pytest.mark.parametrize(
    ("page", "size"),
    [
        (CACHE_LABELS.format(528, True), 528),
        (CACHE_LABELS.format(16, False), 0),
        (CACHE_LABELS.format(None, True), 0),
        ("vllm:num_requests_running{} 0.0\n", 0),
        ("", 0),
    ],
)
async def test_block_size_is_that_of_the_running_engine(
    server: RawServer, engine: OpenAIEngine, page: str, size: int
) -> None:
    serve_vllm(server)
    server.answer("/metrics", response(200, "# TYPE x gauge\n" + page, kind="text/plain"))

    assert (await engine.probe()).block_size == size


async def test_server_of_another_kind_is_not_asked_for_its_cache(
    server: RawServer, engine: OpenAIEngine
) -> None:
    server.answer("/v1/models", models({"id": "a"}))
    server.answer("/metrics", response(200, CACHE_LABELS.format(16, True), kind="text/plain"))

    assert (await engine.probe()).block_size == 0
    assert "/metrics" not in [asked.path for asked in server.asked]


async def test_server_that_tells_nothing_of_itself_gets_the_default(
    server: RawServer, engine: OpenAIEngine
) -> None:
    server.answer("/v1/models", models({"id": "a"}))

    facts = await engine.probe()

    assert facts == EngineFacts(DEFAULT_MAX_MODEL_LEN, calls_tools=True)


async def test_given_facts_fill_in_for_what_the_server_does_not_tell(server: RawServer) -> None:
    server.answer("/v1/models", models())
    engine = OpenAIEngine("a", uds=server.uds, facts=EngineFacts(1234))

    assert (await engine.probe()).max_model_len == 1234

    await engine.aclose()


async def test_unknown_model_is_named_beside_the_known_ones(
    server: RawServer, engine: OpenAIEngine
) -> None:
    server.answer("/v1/models", models({"id": "b", "root": "/srv/b"}, {"id": "c"}))

    with pytest.raises(EngineStartError, match="no model 'a'; it has b, c") as raised:
        await started(engine)

    assert "srv" not in str(raised.value)
    assert not engine.is_ready


async def test_server_that_is_not_there_fails_the_start(run_dir: Path) -> None:
    engine = OpenAIEngine("a", uds=run_dir / "none.sock")
    phases: list[Phase] = []

    with pytest.raises(EngineStartError, match="does not accept connections"):
        await engine.start(lambda change: phases.append(change.phase))

    assert phases == ["checking", "failed"]
    await engine.stop()


async def test_stopped_engine_can_be_started_again(server: RawServer, engine: OpenAIEngine) -> None:
    serve_vllm(server)
    await started(engine)
    await engine.stop()

    await started(engine)

    assert [delta.text for delta in await collect(engine)] == ["x", ""]


async def test_server_without_tokenize_cannot_count(
    server: RawServer, engine: OpenAIEngine
) -> None:
    with pytest.raises(EngineError) as raised:
        await engine.count_tokens(PROMPT.messages)

    assert raised.value.code == "count_unsupported"
    assert server.asked[0].path == "/tokenize"


@pytest.mark.parametrize("body", ["{}", "[]", "x", '{"count": "5"}'])
async def test_count_that_is_none_is_an_error(
    server: RawServer, engine: OpenAIEngine, body: str
) -> None:
    server.answer("/tokenize", response(200, body))

    with pytest.raises(EngineError) as raised:
        await engine.count_tokens(PROMPT.messages)

    assert raised.value.code == "malformed_stream"


async def test_endless_body_is_an_error(server: RawServer, engine: OpenAIEngine) -> None:
    server.answer("/tokenize", response(200, " " * (5 << 20)))

    with pytest.raises(EngineError, match="more than 4194304 bytes"):
        await engine.count_tokens(PROMPT.messages)


async def test_stats_are_read_from_vllms_series(server: RawServer, engine: OpenAIEngine) -> None:
    page = (
        "# HELP vllm:num_requests_running Number of requests.\n"
        'vllm:num_requests_running{engine="0",model_name="a"} 2.0\n'
        'vllm:num_requests_waiting{engine="0",model_name="a"} 3.0\n'
        'vllm:kv_cache_usage_perc{engine="0",model_name="a"} 0.25\n'
    )
    server.answer("/metrics", response(200, page, kind="text/plain"))

    stats = await engine.stats()

    assert (stats.running, stats.waiting, stats.kv_cache_usage) == (2, 3, 0.25)


async def test_server_without_vllms_series_has_no_stats(
    server: RawServer, engine: OpenAIEngine
) -> None:
    server.answer("/metrics", response(200, "up 1\n", kind="text/plain"))

    with pytest.raises(EngineError, match="num_requests_running"):
        await engine.stats()


@pytest.mark.parametrize(
    ("status", "is_dead"), [(200, False), (500, False), (404, False), (503, True)]
)
async def test_only_vllms_own_word_means_that_it_is_dead(
    server: RawServer, engine: OpenAIEngine, status: int, is_dead: bool
) -> None:
    server.answer("/health", response(status, ""))

    assert await engine.says_dead() == is_dead


async def test_server_that_is_not_there_does_not_say_that_it_is_dead(run_dir: Path) -> None:
    engine = OpenAIEngine("a", uds=run_dir / "none.sock")

    assert not await engine.says_dead()

    await engine.aclose()


@pytest.mark.parametrize(
    ("answer", "is_lasting"),
    [
        (response(401, "{}"), True),
        (response(404, "{}"), True),
        (response(500, "{}"), False),
        (response(429, "{}"), False),
        (models({"id": "b"}), True),
    ],
    ids=["wrong key", "wrong URL", "broken", "overloaded", "wrong model"],
)
async def test_start_that_fails_says_whether_another_may_succeed(
    server: RawServer, engine: OpenAIEngine, answer: bytes, is_lasting: bool
) -> None:
    server.answer("/v1/models", answer)

    with pytest.raises(EngineStartError) as raised:
        await started(engine)

    assert (raised.value.code == MISCONFIGURED) == is_lasting
