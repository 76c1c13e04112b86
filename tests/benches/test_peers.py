"""``scripts/bench peers`` on a simulated engine: what is capped, counted, asked and compared."""

import json
import math
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from benches import peers, peers_arms, peers_lengths
from benches.peers_client import Stream, chat, stream, whole
from benches.peers_meter import Counts, read_counts, sum_series
from benches.peers_relay import Relay, cap_request
from benches.peers_servers import SAMPLES, PeerError, derive

from localfusion.config import load
from tests.engines.kinds import NAME, sim_server

SHIPPED = Path(__file__).parent.parent.parent / "models.yaml"
TEXT = "Close the center to cars and widen the pavements."


@pytest.fixture
async def relay(tmp_path: Path) -> AsyncIterator[Relay]:
    async with sim_server(tmp_path / "e.sock", "--text", TEXT) as socket:
        yield Relay(socket, cap=4)


async def test_relay_gives_no_call_more_than_the_cap(relay: Relay) -> None:
    async with relay.listen() as url:
        cut = await whole(url, chat(NAME, "Why?", 512, 0.1))
        short = await whole(url, chat(NAME, "Why?", 2, 0.1))

    assert TEXT.startswith(cut)
    assert len(short) < len(cut) < len(TEXT)
    assert [(call.asked, call.prompt, call.cuts) for call in relay.calls] == [
        (512, "Why?", 1),
        (2, "Why?", 1),
    ]
    assert [call.counts.completion_tokens for call in relay.calls] == [4, 2]


async def test_relay_passes_streams_and_notes_no_cut_in_a_whole_answer(relay: Relay) -> None:
    relay.cap = 100
    async with relay.listen() as url:
        got = await stream(url, chat(NAME, "Why?", 100, 0.1))

    assert got.text == TEXT
    assert got.began < got.first <= got.ended
    assert [call.cuts for call in relay.calls] == [0]
    assert relay.calls[0].counts.prompt_tokens > 0


def test_limit_is_set_where_a_call_has_none() -> None:
    request = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n"

    head, _, body = cap_request(request, b"{}", 7).partition(b"\r\n\r\n")

    assert body == b'{"max_tokens": 7}'
    assert head.split(b"\r\n")[1:] == [b"Host: a", b"content-length: 17", b"connection: close"]


async def test_engine_that_is_gone_breaks_the_call_off(tmp_path: Path) -> None:
    async with Relay(tmp_path / "nobody.sock", cap=4).listen() as url:
        with pytest.raises(PeerError, match="broke off"):
            await whole(url, chat(NAME, "Why?", 4, 0.1))


async def test_engine_that_is_gone_cannot_be_counted(tmp_path: Path) -> None:
    with pytest.raises(PeerError, match=r"nobody.sock is gone"):
        await read_counts(tmp_path / "nobody.sock")


async def test_plain_script_reads_all_samples_before_it_writes(relay: Relay) -> None:
    relay.cap = 100
    async with relay.listen() as url:
        reply = await peers_arms.plain_arm(url, relay, NAME)("Why?", 100)

    *panel, judge = relay.calls
    assert [call.prompt for call in panel] == ["Why?"] * SAMPLES
    assert judge.prompt.count(TEXT) == SAMPLES
    assert reply.judge_calls == 1
    assert 0 < reply.first <= reply.seconds


async def test_drafts_of_the_plain_script_may_have_a_limit_of_their_own(relay: Relay) -> None:
    relay.cap = 100
    async with relay.listen() as url:
        await peers_arms.plain_arm(url, relay, NAME, draft_tokens=1)("Why?", 100)

    assert [call.counts.completion_tokens for call in relay.calls[:SAMPLES]] == [1] * SAMPLES
    assert relay.calls[-1].counts.completion_tokens > 1


def test_rounds_differ_from_the_first_words_on() -> None:
    asked = [peers_lengths.ask_about(number) for number in range(20)]

    assert len({question.partition(".")[0] for question in asked}) == len(asked)


async def test_refusal_is_told_with_its_reason(relay: Relay) -> None:
    async with relay.listen() as url:
        with pytest.raises(PeerError, match="404"):
            await stream(url, chat("other-model", "Why?", 4, 0.1))


def test_stream_that_tells_of_a_failure_is_one() -> None:
    with pytest.raises(PeerError, match="no room"):
        Stream(0.0).take('data: {"choices": [], "error": {"message": "no room"}}')


def test_status_is_told_with_its_reason_and_who_was_lost() -> None:
    lost = {"index": 2, "failure_reason": "straggler"}
    told = {"status": "degraded", "reason": "members_lost", "lost": [lost]}
    got = Stream(0.0)

    got.take("data: " + json.dumps({"choices": [], "fusion": told}))

    assert got.status == "degraded members_lost 2=straggler"


def test_series_are_summed_over_their_labels() -> None:
    page = (
        "# HELP vllm:request_success_total Finished.\n"
        'vllm:request_success_total{engine="0",finished_reason="stop"} 3.0\n'
        'vllm:request_success_total{engine="0",finished_reason="length"} 2.0\n'
    )

    assert sum_series(page) == {"request_success_total": 5.0}


def test_questions_differ_early_and_are_equally_long() -> None:
    questions = [peers.ask_about(number) for number in range(200)]

    assert len({question[: len("Case 1000")] for question in questions}) == 200
    assert len({len(question) for question in questions}) == 1


def test_derived_configuration_is_valid_and_has_equal_panel_and_judge(tmp_path: Path) -> None:
    file = tmp_path / "models.yaml"
    file.write_text(json.dumps(derive(load(SHIPPED), "smollm2-135m", 32)))

    presets = load(file).settings.presets

    for preset in presets.values():
        assert [member.model for member in preset.panel] == [preset.judge]
        assert preset.candidates == SAMPLES


def run(first: float) -> peers.Run:
    return peers.Run(peers_arms.Reply(first, 2 * first, 1), Counts(40, 0, 20, 4))


def records() -> dict[str, peers.Record]:
    slow, fast = [run(4.0), run(9.0), run(5.0)], [run(2.0), run(1.0), run(3.0)]
    made = {name: peers.Record(list(fast)) for name in (peers.OURS, peers.PLAIN_OURS)}
    made |= {name: peers.Record(list(slow)) for name in (peers.MOA, peers.PLAIN)}
    return made


def test_bars_compare_medians_of_equals() -> None:
    rows = peers.bars(records())

    assert [row.value for row in rows] == [pytest.approx(2 / 5)] * 2
    assert all(row.is_met for row in rows)


def test_failed_arm_misses_its_bars_and_says_why() -> None:
    made = records()
    made[peers.MOA].failure = "it cannot be installed"

    rows = peers.bars(made)

    assert [math.isnan(row.value) for row in rows] == [True, True]
    assert not any(row.is_met for row in rows)
    assert any("it cannot be installed" in line for line in peers.table(made))


def test_ratio_over_nothing_is_no_number() -> None:
    assert math.isnan(peers.ratios(records(), peers.OURS, peers.MOA)["cached"])
