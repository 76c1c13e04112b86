"""What answers are worth: exact ones, code, fact sheets, rubrics by hand-worked values, pairs."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localfusion.errors import ConfigError, EngineError
from localfusion.evals.datasets.code_tasks import TASKS
from localfusion.evals.samples import Sample, Score
from localfusion.evals.scorers import create_scorer
from localfusion.evals.scorers.rubric import pass_rate, rubric_score
from localfusion.evals.suites import load_suite
from localfusion.types import Message

WEIGHTS = {"a": 10.0, "b": 10.0, "c": 8.0, "x": -15.0}


def sample(scorer: str, **gold: object) -> Sample:
    return Sample("s", "t", (Message("user", "How many?"),), scorer, gold)


async def value(scorer: str, text: str, **gold: object) -> float | None:
    return (await create_scorer(scorer).score(sample(scorer, **gold), text)).value


@dataclass
class Replies:
    """A scoring model that says what it is told to, and keeps what it was asked."""

    said: Mapping[str, Sequence[str]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    name: str = "scripted"
    identity: str = "scripted"

    async def reply(
        self, messages: tuple[Message, ...], schema: Mapping[str, object], *, seed: int = 0
    ) -> str:
        text = messages[0].content
        self.asked.append(text)
        for part, replies in self.said.items():
            if part in text:
                reply = replies[min(seed, len(replies) - 1)]
                if reply == "dead":
                    raise EngineError("it died")
                return reply
        return "nothing"


def status(met: bool) -> str:
    return json.dumps({"explanation": "so", "criterion_status": "MET" if met else "UNMET"})


@pytest.mark.parametrize(
    ("scorer", "text", "gold", "worth"),
    [
        ("number", "So it is 40 + 2. The answer is 42.", {"answer": "42"}, 1.0),
        ("number", "The answer is 1,042.", {"answer": "1042"}, 1.0),
        ("number", "<think>42</think>The answer is 41.", {"answer": "42"}, 0.0),
        ("number", "I cannot tell.", {"answer": "42"}, 0.0),
        ("number", "42", {"answer": "no number"}, None),
        ("choice", "The answer is (B).", {"answer": "B", "options": ["x", "y"]}, 1.0),
        ("choice", "The answer is A.", {"answer": "B", "options": ["x", "y"]}, 0.0),
        ("text", "The answer is (C).", {"answer": "(C)"}, 1.0),
        ("text", "The answer is False.", {"answer": "False"}, 1.0),
        ("text", "The answer is 3.", {"answer": "3"}, 1.0),
        ("text", "The answer is  Green Lake.", {"answer": "green lake"}, 1.0),
        ("text", "The answer is red.", {"answer": "green"}, 0.0),
    ],
)
async def test_exact_answers(
    scorer: str, text: str, gold: Mapping[str, object], worth: float | None
) -> None:
    assert await value(scorer, text, **gold) == worth


async def test_generated_tasks_are_right_or_wrong_never_in_part() -> None:
    for one in load_suite("small", limit=16).samples:
        scorer = create_scorer("generated")
        right = str(one.gold["answer"])
        near = f"1{right}" if right.isdigit() else "Neither"

        assert (await scorer.score(one, f"Well: <answer> {right} </answer>")).value == 1.0
        assert (await scorer.score(one, f"<answer>{near}</answer>")).value == 0.0
        assert (await scorer.score(one, f"The answer is {right}.")).value == 1.0
        unread = await scorer.score(one, "Hm.")
        assert (unread.value, unread.extracted) == (0.0, None)


async def test_every_code_task_has_a_solution_that_passes_and_tests_that_fail() -> None:
    scorer = create_scorer("code")
    assert len(TASKS) >= 20
    for task, one in zip(TASKS, load_suite("code").samples, strict=True):
        passed = await scorer.score(one, f"```python\n{task.solution}```")
        failed = await scorer.score(one, f"```python\ndef {task.head}:\n    return 'no'\n```")
        assert (task.name, passed.value, failed.value) == (task.name, 1.0, 0.0)
    assert (await scorer.score(one, "No code.")).extracted is None


async def test_completion_of_a_functions_head_is_run_behind_it() -> None:
    head = "def twice(n):\n"
    gold = {
        "entry": "twice",
        "prompt": head,
        "setup": "def check(candidate):\n    assert candidate(2) == 4\n",
        "cases": ["check(twice)"],
    }

    assert await value("code", "    return 2 * n\n", **gold) == 1.0
    assert await value("code", "```python\ndef twice(n):\n    return n\n```", **gold) == 0.0


async def test_fact_sheets_know_which_entries_an_answer_has() -> None:
    gold = {"facts": {"Elm Bay": "1200", "Iris Mill": "340"}, "errors": {"Elm Bay": "99"}}
    scorer = create_scorer("facts")
    whole = await scorer.score(sample("facts", **gold), "- Elm Bay: 1,200\n- Iris Mill: 340")
    wrong = await scorer.score(sample("facts", **gold), "Elm Bay: 99\nIris Mill: 3401")

    assert whole.value == 1.0
    assert wrong.value == 0.0
    assert wrong.parts == {
        "fact:Elm Bay": False,
        "fact:Iris Mill": False,
        "error:Elm Bay": True,
    }


@pytest.mark.parametrize(
    ("met", "score", "rate"),
    [
        ({"a", "c", "x"}, 3 / 28, 0.5),
        ({"a", "x"}, 0.0, 0.25),
        ({"a", "b", "c"}, 1.0, 1.0),
        (set(), 0.0, 0.25),
        ({"x"}, 0.0, 0.0),
    ],
)
def test_rubrics_have_their_hand_worked_values(met: set[str], score: float, rate: float) -> None:
    held = {id: id in met for id in WEIGHTS}

    assert rubric_score(WEIGHTS, held) == pytest.approx(score)
    assert pass_rate(WEIGHTS, held) == pytest.approx(rate)


@given(
    st.dictionaries(
        st.text(min_size=1, max_size=3),
        st.tuples(st.floats(-500, 20).filter(lambda w: abs(w) > 1e-3), st.booleans()),
        min_size=1,
    )
)
def test_rubric_scores_stay_between_0_and_1(rubric: dict[str, tuple[float, bool]]) -> None:
    weights = {id: weight for id, (weight, _) in rubric.items()}
    met = {id: held for id, (_, held) in rubric.items()}
    if any(weight > 0 for weight in weights.values()):
        assert 0.0 <= rubric_score(weights, met) <= 1.0
    else:
        with pytest.raises(ValueError, match="sum to 0"):
            rubric_score(weights, met)


def rubric_of(weights: Mapping[str, float]) -> list[dict[str, object]]:
    return [
        {"id": id, "weight": weight, "requirement": f"requirement {id}"}
        for id, weight in weights.items()
    ]


async def graded(replies: Replies, text: str = "An answer.") -> Score:
    scorer = create_scorer("rubric", replies)
    return await scorer.score(sample("rubric", criteria=rubric_of(WEIGHTS)), text)


async def test_rubric_is_graded_one_criterion_at_a_time_and_without_weights() -> None:
    replies = Replies(
        {
            "requirement a": [status(True)],
            "requirement b": [status(False)],
            "requirement c": [status(True)],
            "requirement x": [status(True)],
        }
    )
    score = await graded(replies, "<think>secret thoughts</think>An answer.")

    assert score.value == pytest.approx(3 / 28)
    assert score.high is None
    assert len(replies.asked) == len(WEIGHTS)
    for asked in replies.asked:
        assert asked.count("requirement ") == 1
        assert "secret" not in asked
        assert "15" not in asked
    assert sum("a fault" in asked for asked in replies.asked) == 1


async def test_reply_that_cannot_be_read_is_unscored_and_never_unmet() -> None:
    replies = Replies(
        {
            "requirement a": ["no json", "[]", status(True)],
            "requirement b": ['{"criterion_status": "PERHAPS"}'],
            "requirement c": [status(False)],
            "requirement x": ["dead"],
        }
    )
    score = await graded(replies)

    assert score.parts == {"a": True, "b": None, "c": False, "x": None}
    assert score.value == 0.0  # 10 - 15, were all against it
    assert score.high == pytest.approx(20 / 28)
    assert "b, x" in score.detail
    assert (await graded(Replies())).value is None


async def test_preference_needs_both_orders() -> None:
    def says(first: str, second: str) -> Replies:
        def form(better: str) -> list[str]:
            return [json.dumps({"reason": "r", "better": better})]

        return Replies({"first answer]\nours": form(first), "first answer]\ntheirs": form(second)})

    async def worth(replies: Replies) -> float | None:
        scorer = create_scorer("pair", replies)
        return (await scorer.score(sample("pair", reference="theirs"), "ours")).value

    assert await worth(says("first", "second")) == 1.0
    assert await worth(says("second", "first")) == 0.0
    assert await worth(says("first", "first")) == 0.5
    assert await worth(says("first", "neither")) is None


def test_scorers_that_are_not_there_are_named() -> None:
    with pytest.raises(ConfigError, match="numbr"):
        create_scorer("numbr")
    with pytest.raises(ConfigError, match="--scoring-model"):
        create_scorer("rubric")
