"""What explanations find: planted wrong members and bad judges, where sentences come from."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localfusion.engines.sim import SimEngine, SimFailure
from localfusion.errors import RequestError
from localfusion.explain import Explanation, explain, to_json
from localfusion.explain.finals import Finals
from localfusion.explain.sentences import meaning_of, sentences
from localfusion.explain.support import likeness, trace_sentences
from localfusion.traces import Trace
from localfusion.traces.form import line
from localfusion.types import Answer, Candidate, Request, SamplingParams
from tests.recording import Stage, says
from tests.sim_scripts import first, longest, picks

RIGHT = "Four threes are twelve. Answer: 8"
WRONG = "Twelve pens at two euros for three of them, with a rebate, make less. Answer: 7"
ALSO_WRONG = "Answer: 6"
OPEN = "How are pens made, and where?"


async def explained(stage: Stage, trace: Trace, expect: str | None = None) -> Explanation:
    """Explain a trace with replays on the stage's engines."""

    async def ask(request: Request) -> Answer:
        return await stage.fusion().complete(request)

    return await explain(trace, expect=expect, ask=ask)


async def test_planted_wrong_member_is_found() -> None:
    """The judge follows the longest draft, which is wrong, wherever it stands."""
    stage = Stage(says(RIGHT, WRONG, "Answer: 8"), SimEngine(picks(longest)))
    found = await explained(stage, await stage.ask(), expect="8")

    assert found.final == "7"
    assert found.cause.blame == "member"
    assert found.cause.words.startswith("b misleads the judge")
    assert "without b: right: 8" in found.cause.evidence
    assert "with the drafts in reversed order: wrong: 7" in found.cause.evidence
    assert stage.panel_calls == 3


async def test_planted_bad_judge_is_found() -> None:
    """It answers its own thing whatever it reads."""
    stage = Stage(says(RIGHT, "Answer: 8", WRONG), SimEngine("I think so. Answer: 5"))
    found = await explained(stage, await stage.ask(), expect="8")

    assert found.cause.blame == "judge"
    assert found.cause.evidence[0] == "2 of 3 drafts have the expected answer: a, b"
    assert [trial.is_right for trial in found.trials] == [False] * 5


@pytest.mark.parametrize(
    ("texts", "judge", "expect", "blame"),
    [
        ((RIGHT, WRONG, RIGHT), picks(longest, ""), "7", "none"),  # by luck
        ((WRONG, ALSO_WRONG, "Answer: 5"), picks(first), "8", "panel"),
        ((WRONG, ALSO_WRONG, RIGHT), picks(first), "8", "interaction"),  # it is the place
        ((WRONG, f"{WRONG} ", RIGHT, ALSO_WRONG), picks(longest), "8", "interaction"),  # two alike
        ((RIGHT, WRONG), "Answer: 5", "8", "judge"),
    ],
)
async def test_cause_is_told_where_the_right_answer_is_known(
    texts: tuple[str, ...], judge: object, expect: str, blame: str
) -> None:
    stage = Stage(says(*texts), SimEngine(judge), preset={"order": "fixed"})  # type: ignore[arg-type]  # as given
    found = await explained(stage, await stage.ask(), expect=expect)

    assert found.cause.blame == blame, found.cause


@pytest.mark.parametrize(
    ("texts", "judge", "blame"),
    [
        ((RIGHT, WRONG, RIGHT), picks(longest), "member"),
        ((RIGHT, WRONG, ALSO_WRONG), picks(first), "interaction"),
        ((RIGHT, "Answer: 8", WRONG), "Answer: 8", "panel"),
        ((RIGHT, "Answer: 8", WRONG), "Answer: 5", "judge"),
        ((RIGHT, WRONG), ["Answer: 8", *["Answer: 7"] * 9], "none"),  # it does not repeat itself
    ],
)
async def test_what_the_answer_depends_on_is_told_without_it(
    texts: tuple[str, ...], judge: object, blame: str
) -> None:
    stage = Stage(says(*texts), SimEngine(judge))  # type: ignore[arg-type]  # as given
    found = await explained(stage, await stage.ask())

    assert found.cause.blame == blame, found.cause
    assert found.is_right is None


async def test_judge_that_does_not_repeat_itself_is_to_blame() -> None:
    stage = Stage(says(RIGHT, WRONG), SimEngine(["Answer: 7", *["Answer: 8"] * 9]))
    found = await explained(stage, await stage.ask(), expect="8")

    assert found.cause.blame == "judge"
    assert "does not repeat itself" in found.cause.words


async def test_judge_that_fails_is_to_blame() -> None:
    stage = Stage(says(WRONG, RIGHT), SimEngine("x", failure=SimFailure("refuse")))
    found = await explained(stage, await stage.ask(), expect="8")

    assert found.cause.blame == "judge"
    assert "judge_upstream_error" in found.cause.words


async def test_vote_without_a_judge_is_the_panels() -> None:
    stage = Stage(says(WRONG, WRONG, RIGHT), preset={"policy": "vote"})
    trace = await stage.ask()
    asked = len(stage.judge.calls)
    found = await explained(stage, trace, expect="8")

    assert found.cause.blame == "panel"
    assert asked == 0


async def test_without_replays_nothing_is_asked_and_no_more_is_claimed() -> None:
    stage = Stage(says(RIGHT, WRONG), SimEngine("Answer: 7"))
    trace = await stage.ask()
    asked = len(stage.judge.calls)
    known, unknown = await explain(trace, expect="8"), await explain(trace)

    assert (known.cause.blame, unknown.cause.blame) == ("none", "panel")
    assert "only replays can tell" in known.cause.words
    assert len(stage.judge.calls) == asked
    assert known.trials == ()


async def test_open_answer_is_the_panels_where_drafts_say_what_it_says() -> None:
    texts = ("Pens are cast in brass molds.", "Pens are made in Japan and Germany.")
    judge = f"{texts[0]} {texts[1]} Nobody knows who had the idea first."
    stage = Stage(says(*texts), SimEngine(judge))
    found = await explained(stage, await stage.ask(OPEN))

    assert [[s.index for s in t.support] for t in found.sentences] == [[0], [1], []]
    assert (found.cause.blame, found.final, found.contradiction) == ("panel", None, None)


async def test_contradiction_is_told_with_whom_the_answer_follows() -> None:
    stage = Stage(says(RIGHT, WRONG, "Answer: 8"), SimEngine("Answer: 7"))
    found = await explain(await stage.ask())

    assert found.contradiction is not None
    assert found.contradiction.is_named is None  # there is no analysis
    stands = {s.answer: (s.indices, s.is_followed) for s in found.contradiction.stands}
    assert stands == {"8": ((0, 2), False), "7": ((1,), True)}


@pytest.mark.parametrize(("topic", "is_named"), [("8 or 7 euros", True), ("the color", False)])
async def test_contradiction_is_looked_for_in_the_analysis(topic: str, is_named: bool) -> None:
    parts = ("consensus", "partial_coverage", "unique_insights", "blind_spots")
    said: dict[str, object] = {part: [] for part in parts}
    stances = [{"model": label, "stance": "so"} for label in "AB"]
    said["contradictions"] = [{"topic": topic, "stances": stances}]
    judge = SimEngine([line(said).decode(), "Answer: 8"])
    stage = Stage(says(RIGHT, WRONG), judge, preset={"options": {"analysis": "separate"}})
    found = await explain(await stage.ask())

    assert found.contradiction is not None
    assert found.contradiction.is_named is is_named


@pytest.mark.virtual_time
async def test_lost_and_unfinished_members_are_told_with_what_they_mattered() -> None:
    members = {
        "a": SimEngine("Answer: 8"),
        "b": SimEngine(failure=SimFailure("refuse")),
        "c": SimEngine("Answer: 9 and so on, and so on", name="c"),
    }
    panel = ["a", "b", {"model": "c", "max_tokens": 3}, {"model": "a"}]
    stage = Stage(members, SimEngine(picks(longest)), preset={"panel": panel})
    found = await explained(stage, await stage.ask())

    assert [(x.kind, x.name, x.has_mattered) for x in found.losses] == [
        ("lost", "b", None),
        ("unfinished", "c", False),
    ]


async def test_explanation_is_json_with_the_sentences_places() -> None:
    stage = Stage(says(RIGHT, WRONG), SimEngine("Twelve pens. Answer: 8"))
    trace = await stage.ask()
    told = to_json(await explained(stage, trace, "8"))

    assert line(told)
    assert trace.answer is not None
    sentences_told = told["sentences"]
    assert isinstance(sentences_told, list)
    assert [trace.answer.text[s["start"] : s["end"]] for s in sentences_told] == [
        s["text"] for s in sentences_told
    ]


@pytest.mark.parametrize("expect", ["", "  ", "x" * 2001])
async def test_odd_expected_answer_is_refused(expect: str) -> None:
    trace = await Stage(says(RIGHT, WRONG)).ask()
    with pytest.raises(RequestError, match="send the right answer"):
        await explain(trace, expect=expect)


async def test_trace_without_an_answer_is_refused_with_the_remedy() -> None:
    trace = await Stage(says(RIGHT, WRONG)).ask()
    with pytest.raises(RequestError, match="replay it, and explain the replay"):
        await explain(replace(trace, events=trace.events[:-1]))


# Sentences and support.

TEXT = st.text(max_size=400) | st.text(alphabet="ab .!?\n8,-。'´½٣", max_size=200)  # noqa: RUF001


@given(TEXT)
def test_sentences_are_the_text(text: str) -> None:
    parts = sentences(text)

    assert "".join(part.text for part in parts) == text
    assert all(text[part.start : part.end] == part.text for part in parts)
    assert all(part.text for part in parts)


@given(TEXT, TEXT)
def test_any_text_can_be_traced_to_any(answer: str, draft: str) -> None:
    traced = trace_sentences(answer, [_draft(draft)])

    assert all(0 <= s.score <= 1 for t in traced for s in (*t.support, *t.against))
    assert 0 <= likeness(answer, draft) <= 1
    assert likeness(answer, answer) == 1
    assert Finals(expect="x").is_right(f"x {answer}") in (True, False)


@given(TEXT)
def test_sentence_is_supported_by_itself(text: str) -> None:
    for traced in trace_sentences(text, [_draft(text)]):
        is_known = any(part.meaning == traced.sentence.meaning for part in sentences(text))
        assert is_known


def _draft(text: str) -> Candidate:
    return Candidate(0, "a", SamplingParams(), text)


@pytest.mark.parametrize(
    ("said", "draft", "support", "against"),
    [
        ("They cost 8 euros in all.", "8 euros.", True, False),
        ("They cost eight euros.", "The pens cost 8 euros, all of them.", True, False),
        ("They cost 1,000 euros.", "They cost 1000.00 euros.", True, False),
        ("They cost 8 euros.", "They cost 9 euros.", False, True),
        ("They cost 8 euros.", "They do not cost 8 euros.", False, True),
        ("It isn't blue.", "It is blue.", False, True),
        ("It is blue.", "It isn’t green. It is blue.", True, False),  # noqa: RUF001
        ("The answer is 12.", "12 x 2/3 = 8. The answer is 8.", False, True),
        (
            "The price of 12 pens is 12 euros.",
            "3 pens cost 2 euros, 12 are 4 times 3 pens.",
            False,
            False,
        ),
        ("The moon is far away.", "Bananas are yellow.", False, False),
        ("Pens are cast in brass.", "1. Pens are cast. 2. In brass.", True, False),
        ("東京は日本の首都です。", "日本の首都は東京です。", True, False),
    ],
)
def test_support_is_words_with_numbers_and_negation_exact(
    said: str, draft: str, support: bool, against: bool
) -> None:
    (traced,) = trace_sentences(said, [_draft(draft)])

    assert (bool(traced.support), bool(traced.against)) == (support, against)


def test_number_of_a_list_is_no_sentence() -> None:
    parts = [part.text for part in sentences("1. Melt it. See 2.\n2. Cast it.")]

    assert parts == ["1. Melt it. ", "See 2.\n", "2. Cast it."]


def test_meaning_leaves_out_the_commonest_words_and_marks_of_lists() -> None:
    assert meaning_of("2. It is the red pen.").grams == {"red", "pen", "red pen"}
    assert meaning_of("").grams == frozenset()


@pytest.mark.parametrize(
    ("expect", "text", "is_right"),
    [
        ("blue", "The sky is Blue!", True),
        ("blue", "The sky is bluest.", False),
        ("8", "There are 18 of them.", False),
        ("8 euros", "It costs 8 euros.", True),
    ],
)
def test_expected_answer_is_looked_for_word_for_word(
    expect: str, text: str, is_right: bool
) -> None:
    assert Finals(expect=expect).is_right(text) is is_right
