"""The private comparison in front of an answer never reaches the reader, however it is cut up."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localfusion.engines.sim import SimEngine
from localfusion.events import AnswerDelta
from localfusion.fusion.judge.inline import InlineAnalysis
from localfusion.types import Prompt, Request, SamplingParams
from tests.fusion.conftest import REQUEST, FusionFactory, events_of

pytestmark = pytest.mark.virtual_time

plain = st.text(alphabet="abc <>/\n", max_size=40)


def read(pieces: list[str]) -> str:
    inline = InlineAnalysis()
    return "".join([*map(inline.feed, pieces), inline.end()])


def cut(text: str, places: list[int]) -> list[str]:
    edges = [0, *sorted(place % (len(text) + 1) for place in places), len(text)]
    return [text[a:b] for a, b in pairwise(edges)]


@given(plain, plain, st.lists(st.integers(0, 100), max_size=8))
def test_what_is_inside_stays_inside(inside: str, answer: str, places: list[int]) -> None:
    text = f"<analysis>{inside}</analysis>\n\n{answer}"

    seen = read(cut(text, places))

    if answer.strip():
        assert seen == answer.lstrip()


@given(st.text(max_size=60), st.lists(st.integers(0, 100), max_size=8))
def test_answer_without_a_comparison_is_passed_on_whole(text: str, places: list[int]) -> None:
    if not text.lstrip().startswith("<"):
        assert read(cut(text, places)) == (text if text.strip() else "")


def test_comparison_without_an_end_is_the_answer() -> None:
    assert read(["<analysis>It", " is 8."]) == "It is 8."


def test_comparison_that_is_too_long_is_cut_and_kept_as_notes() -> None:
    inline = InlineAnalysis(limit=3)

    seen = "".join(inline.feed(piece) for piece in ("<analysis>A", " is", " wrong,", " and"))

    assert (seen, inline.end(), inline.is_cut) == ("", "", True)
    assert inline.analysis.startswith("A is wrong")


def test_comparison_without_an_answer_is_the_answer() -> None:
    assert read(["<analysis>It is 8.</analysis>\n"]) == "It is 8."


async def test_reader_sees_only_the_answer(fusion: FusionFactory) -> None:
    judge = SimEngine("<analysis>B is wrong.</analysis>\n\nIt is 8.")
    panel = fusion(a=SimEngine("8"), b=SimEngine("9"), judge=judge, options={})

    events = await events_of(panel)

    assert "".join(e.text for e in events if isinstance(e, AnswerDelta)) == "It is 8."
    assert "<analysis>" in judge.calls[0].messages[-1].content


@pytest.mark.parametrize("before", ["", "<analysis>B is wrong.</analysis>"])
async def test_answer_is_never_longer_than_the_client_allows(
    fusion: FusionFactory, before: str
) -> None:
    judge = SimEngine(before + "word " * 300)
    panel = fusion(a=SimEngine("8"), b=SimEngine("9"), judge=judge, options={})
    request = Request("demo", REQUEST.messages, SamplingParams(max_tokens=20))

    answer = await panel.complete(request)

    assert answer.finish_reason == "length"
    assert answer.text.count("word") <= 20
    assert judge.aborts == 1
    assert answer.stages["synthesis"].usage.completion_tokens >= 20


async def test_judge_that_compares_for_too_long_is_asked_for_the_answer(
    fusion: FusionFactory,
) -> None:
    def speak(prompt: Prompt) -> str:
        is_second = "Notes from comparing them" in prompt.messages[-1].content
        return "It is 8." if is_second else "<analysis>" + "B is wrong. " * 200

    judge = SimEngine(speak)
    panel = fusion(
        a=SimEngine("8"), b=SimEngine("9"), judge=judge, options={}, analysis_max_tokens=64
    )

    answer = await panel.complete(REQUEST)

    assert (answer.text, answer.status) == ("It is 8.", "full")
    assert answer.stages["synthesis"].usage.calls == 2
    assert answer.stages["synthesis"].usage.completion_tokens < 100
