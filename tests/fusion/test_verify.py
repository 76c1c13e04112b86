"""The policy verify: what passes wins, what fails is out; real sandboxes, simulated engines."""

from localfusion.engines.sim import SimEngine
from localfusion.events import CandidateChecked
from localfusion.types import Message, Request
from tests.fusion.conftest import FusionFactory, events_of

TASK = Request(
    "demo",
    (
        Message(
            "user",
            "Write a Python function add(a, b).\n```python\nassert add(1, 2) == 3\n"
            "assert add(-1, 1) == 0\n```",
        ),
    ),
)
UNTESTED = Request("demo", (Message("user", "Write a Python function add(a: int, b: int)."),))

RIGHT = "```python\ndef add(a: int, b: int):\n    return a + b\n```"
ALSO_RIGHT = "```python\ndef add(a: int, b: int):\n    return b + a\n```"
WRONG = "```python\ndef add(a: int, b: int):\n    return a - b\n```"
HOSTILE = "```python\nimport os\nprint('passed')\nos._exit(0)\n```"


async def test_code_that_passes_its_tests_is_given_word_for_word(fusion: FusionFactory) -> None:
    judge = SimEngine("never asked")
    panel = fusion(
        a=SimEngine(WRONG), b=SimEngine(RIGHT), c=SimEngine(HOSTILE), judge=judge, policy="verify"
    )

    answer = await panel.complete(TASK)

    assert (answer.text, answer.model, answer.status) == (RIGHT, "b", "full")
    outcomes = [[c.outcome for c in candidate.checks] for candidate in answer.candidates]
    assert outcomes[0] == ["failed"]
    assert outcomes[1] == ["passed"]
    assert outcomes[2] != ["passed"]
    assert judge.calls == []
    assert [step.stage for step in answer.critical_path].count("check") == 1


async def test_every_check_is_an_event(fusion: FusionFactory) -> None:
    panel = fusion(a=SimEngine(WRONG), b=SimEngine(RIGHT), policy="verify")

    events = await events_of(panel, TASK)

    checked = [event for event in events if isinstance(event, CandidateChecked)]
    assert [event.index for event in checked] == [0, 1]
    assert "add(1, 2)" in checked[0].check.detail


async def test_failed_candidates_are_not_put_to_the_judge(fusion: FusionFactory) -> None:
    judge = SimEngine("Written.", verdict={"S": 1.0})
    prose = SimEngine("One adds them with the plus sign.")
    panel = fusion(
        a=SimEngine(WRONG), b=prose, c=SimEngine("Use the built-in sum."), judge=judge,
        policy="verify",
    )  # fmt: skip

    answer = await panel.complete(TASK)

    assert answer.text == "Written."
    read = judge.calls[-1].messages[-1].content
    assert "a - b" not in read
    assert "plus sign" in read


async def test_what_all_fail_decides_nothing(fusion: FusionFactory) -> None:
    judge = SimEngine("Written.", verdict={"S": 1.0})
    panel = fusion(a=SimEngine(WRONG), b=SimEngine(WRONG), judge=judge, policy="verify")

    assert (await panel.complete(TASK)).text == "Written."


async def test_programs_that_behave_the_same_are_preferred(fusion: FusionFactory) -> None:
    judge = SimEngine("Written.", verdict={"A": 0.9, "B": 0.1})
    panel = fusion(
        a=SimEngine(WRONG), b=SimEngine(RIGHT), c=SimEngine(ALSO_RIGHT), judge=judge,
        policy="verify", order="fixed",
    )  # fmt: skip

    answer = await panel.complete(UNTESTED)

    assert answer.model == "b"
    assert "a - b" not in judge.calls[0].messages[-1].content


async def test_programs_that_behave_the_same_are_one_vote(fusion: FusionFactory) -> None:
    judge = SimEngine("never asked")
    panel = fusion(
        a=SimEngine(WRONG), b=SimEngine(RIGHT), c=SimEngine(ALSO_RIGHT), judge=judge, policy="vote"
    )

    answer = await panel.complete(UNTESTED)

    assert (answer.model, answer.status) == ("b", "full")
    assert judge.calls == []


async def test_wrong_arithmetic_is_out(fusion: FusionFactory) -> None:
    judge = SimEngine("Written.", verdict={"A": 0.9, "S": 0.1})
    question = Request("demo", (Message("user", "Explain how you would buy 12 pens at 3 each."),))
    panel = fusion(
        a=SimEngine("12 * 3 = 35, so 35 euros."), b=SimEngine("12 * 3 = 36, so 36 euros."),
        c=SimEngine("I would go to the shop."), judge=judge, policy="verify", order="fixed",
    )  # fmt: skip

    answer = await panel.complete(question)

    assert answer.model == "b"
    assert answer.candidates[0].checks[0].outcome == "failed"
