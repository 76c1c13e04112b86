"""The kind of a request by rules: closed, code, or open; in doubt open."""

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localfusion.fusion.agreement.extract import Extractor, Kind
from localfusion.fusion.routing import Routing, Rules, Task, detect, route
from localfusion.types import Message

CHOICE = "Which city has the Thames?\nOptions:\n(A) Paris\n(B) London\n(C) Rome"


def asked(*turns: str) -> list[Message]:
    """Return a conversation of user and assistant in turns."""
    return [Message("assistant" if i % 2 else "user", turn) for i, turn in enumerate(turns)]


def routed(*turns: str) -> Routing:
    return route([Message("system", "You are helpful."), *asked(*turns)])


@pytest.mark.parametrize(
    "question",
    [
        "How many legs do 3 spiders have?",
        "How many ounces are there in a pint?",
        "Tom has 3 apples and buys 4 more. How many apples does he have now?",
        "What is 12*7?",
        "12 × 7 =",  # noqa: RUF001  as people write it
        "what's 15 plus 4",
        "A pen costs $2. How much do 12 pens cost?",
        "Calculate the area of a triangle with base 5 and height 6.",
        "Given f(x) = 3x + 1, find the value of f(2).",
        "What is the remainder when 17 is divided by 5? Explain your steps.",
        "Wie viele Beine haben 3 Spinnen?",
        "Combien font 3 paires de 4 chaussettes ?",
        "小明有3个苹果,又买了4个,一共有多少个?",
    ],
)
def test_a_question_for_a_number_is_closed(question: str) -> None:
    routing = routed(question)

    assert (routing.task, routing.reason) == ("closed", "numeric_question")
    assert routing.extractor == Extractor("number")


@pytest.mark.parametrize(
    "question",
    [
        CHOICE,
        "Which is a mammal?\n\nA. Shark\nB. Whale\nC. Trout",
        "Which is a mammal?\nA) Shark\nB) Whale",
        "Pick the mammal: (A) shark (B) whale (C) trout",
        "Which should be reported?\na) A quarrel.\nb) A game.\nc) A theft.",
        "¿Cuál es un mamífero?\n(A) Tiburón\n(B) Ballena",
        "The whale is a\nA. mammal\nB. fish\n\nWhat is the best answer?",
    ],
)
def test_a_list_of_options_is_a_choice(question: str) -> None:
    routing = routed(question)

    assert (routing.task, routing.reason) == ("closed", "choice_list")


def test_the_options_go_to_the_extractor() -> None:
    extractor = detect(asked(CHOICE))

    assert extractor == Extractor("choice", options=("Paris", "London", "Rome"))
    found = extractor.extract("It must be London.")
    assert found is not None
    assert found.value == "B"


@pytest.mark.parametrize(
    "question",
    [
        "True or false: the whale is a fish.",
        "The whale is a fish. Answer yes or no.",
        "Is 17 a prime number?",
        "Is Canberra the capital of Australia?",
        "not ( True ) and ( True ) is",
        "Ist der Wal ein Fisch, ja oder nein?",
    ],
)
def test_a_question_for_yes_or_no_is_closed(question: str) -> None:
    routing = routed(question)

    assert routing.task == "closed"
    assert routing.extractor == Extractor("boolean")


@pytest.mark.parametrize(
    ("question", "kind"),
    [
        ("Solve x + 3 = 10. Put your final answer in \\boxed{}.", "number"),
        ("Which of the two is larger? Respond with only the number.", "number"),
        ("Who wrote Faust? Answer with only the name.", "text"),
        ("Pick the best of the above. Reply with just the letter.", "choice"),
        ("Is it raining? Answer with only yes or no.", "boolean"),
    ],
)
def test_a_prescribed_form_tells_the_kind(question: str, kind: Kind) -> None:
    routing = routed(question)

    assert routing.task == "closed"
    assert routing.extractor == Extractor(kind)
    assert routing.reason == f"final_answer+{kind}"


@pytest.mark.parametrize(
    "question",
    [
        "Write a function that reverses a string.",
        "Implement a Python program that prints the first 10 primes.",
        "Create an SQL query for all words that start with d.",
        "Fix this:\n```python\ndef double(x):\n    return x + 2\n```",
        "```js\nlet x = 1\n```\nOptimize it.",
        "def double(x: int) -> int:\n    '''What does it do? How many times? Once.'''\n",
        "Can you find the bug?\n\n#include <stdio.h>\nint main() { return 1 }",
        "from typing import List\n\n\ndef largest(items: List[int]) -> int:\n    ...",
    ],
)
def test_a_request_for_code_is_code(question: str) -> None:
    routing = routed(question)

    assert routing.task == "code"
    assert routing.extractor == Extractor("code")
    assert not routing.tests_present


@pytest.mark.parametrize(
    "tests",
    [
        "assert double(2) == 4",
        ">>> double(2)\n4",
        "def test_double():\n    assert double(2) == 4",
        "class T(unittest.TestCase):\n    def test_two(self):\n        self.assertEqual(2, 4)",
    ],
)
def test_tests_in_a_request_for_code_are_seen(tests: str) -> None:
    routing = routed(f"Write a function `double`. It must pass:\n\n{tests}")

    assert routing.task == "code"
    assert routing.tests_present
    assert routing.reason.endswith("+tests")


@pytest.mark.parametrize(
    "follow_up", ["Can you parallelize it?", "Fix it.", "Now write a program for 3."]
)
def test_a_change_of_earlier_code_is_code(follow_up: str) -> None:
    code = "```python\ndef double(x):\n    return 2 * x\n```"

    assert routed("Double a number.", code, follow_up).reason == "change_of_code"
    assert routed("Tell me a joke.", "A man walks into a bar.", follow_up).task == "open"


@pytest.mark.parametrize(
    "question",
    [
        "",
        "Hello!",
        "Write a poem about the sea.",
        "What is the value of friendship?",
        "Why is the sky blue?",
        "Is it a good idea to learn Rust?",
        "Should I buy a house?",
        "Is there any way to fix this relationship?",
        "How much do you love me?",
        "Explain what this does:\n```python\nprint(1)\n```",
        "What does this code do?\n\ndef double(x):\n    return 2 * x",
        "def double(x):\n    return 2 * x\n\nExplain why it is slow.",
        "Compute the derivative of 2x^2 + 5x.",
        "If 2 pass, what is my position? Where is the person I passed?",
        "Calculate 3 margins and discuss how many factors drive each of the 5 firms.",
        "Design a training program for 12 weeks.",
        "Write a script for a 10-second conversation between two characters.",
        "Edit my outline:\nA. Introduction\nB. Methods\nC. Results",
        "Compare two cases: (A) 220,000 of salary, and (B) 200,000 of salary.",
        "Extract the books:\na) In the realm of wizards\nb) In a dystopian world",
        "Reply with only one sentence: how are you?",
        "For example:\nfor example:\nif you like it:\npublic transport (buses) is cheap",
        "Answer with JSON only: {}",
    ],
)
def test_in_doubt_a_question_is_open(question: str) -> None:
    routing = routed(question)

    assert (routing.task, routing.extractor, routing.reason) == ("open", None, "unsure")


def test_only_the_last_question_counts() -> None:
    assert routed("What is 2+2?", "4", "Why is that so?").task == "open"
    assert routed("Why is the sky blue?", "Because.", "What is 2+2?").task == "closed"


@pytest.mark.parametrize("kind", [kind for kind in get_args(Kind) if kind != "regex"])
def test_a_given_extractor_settles_it(kind: Kind) -> None:
    routing = route(asked("Write a poem."), extract=Extractor(kind))

    assert routing.task == ("code" if kind == "code" else "closed")
    assert routing.extractor == Extractor(kind)
    assert routing.reason == "extractor_given"


INTEGER = {"type": "integer"}
STRING = {"type": "string"}


@pytest.mark.parametrize(
    ("schema", "task"),
    [
        ({"type": "object", "properties": {"answer": INTEGER}}, "closed"),
        ({"type": "object", "properties": {"reasoning": STRING, "answer": INTEGER}}, "closed"),
        ({"type": "object", "properties": {"label": {"enum": ["a", "b"]}}}, "closed"),
        ({"type": "array", "items": {"type": "boolean"}}, "closed"),
        ({"type": "object", "properties": {"x": {"anyOf": [INTEGER, {"type": "null"}]}}}, "closed"),
        (
            {
                "$defs": {"Label": {"enum": ["a", "b"]}},
                "type": "object",
                "properties": {"label": {"$ref": "#/$defs/Label"}},
            },
            "closed",
        ),
        ({"type": "object", "properties": {"summary": STRING, "stars": INTEGER}}, "open"),
        ({"type": "object", "properties": {"reasoning": STRING}}, "open"),
        ({"type": "object"}, "open"),
        ({"$ref": "#"}, "open"),
        ({"$ref": "#/nowhere"}, "open"),
        ({}, "open"),
    ],
)
def test_a_schema_without_free_text_is_closed(schema: dict[str, object], task: Task) -> None:
    routing = route(asked("Rate it."), response_schema=schema)

    assert routing.task == task
    assert routing.extractor == (Extractor("json") if task == "closed" else None)


@pytest.mark.parametrize(
    ("question", "rules"),
    [
        (CHOICE, Rules(min_options=0)),
        (CHOICE, Rules(min_options=4)),
        (CHOICE, Rules(max_choice=10)),
        (CHOICE, Rules(max_option=3)),
        ("How many legs do 3 spiders have?", Rules(max_numeric=10)),
        ("Is 17 a prime number?", Rules(max_boolean=10)),
        ("Put it in \\boxed{}.", Rules(max_final_answer=10)),
        ("Write a function that adds.", Rules(max_code=10)),
    ],
)
def test_every_threshold_can_turn_its_rule_off(question: str, rules: Rules) -> None:
    assert route(asked(question)).task != "open"
    assert route(asked(question), rules=rules).task == "open"


WORDS = (
    "(A) ",
    "A. ",
    "\n",
    "```",
    "def f(",
    "how many ",
    "is ",
    "2",
    "?",
    "true or false",
    "class x:",
)


@given(st.one_of(st.text(max_size=200), st.lists(st.sampled_from(WORDS), max_size=12).map("".join)))
def test_every_text_has_a_kind_and_a_reason(text: str) -> None:
    routing = routed(text)

    assert routing.reason
    assert (routing.extractor is None) == (routing.task == "open")


@pytest.mark.timeout(30)
@pytest.mark.parametrize(
    "opener",
    [
        *WORDS,
        "a ",
        " ",
        "SELECT ",
        "public static ",
        "1+",
        "(",
        "not ",
        "write a ",
        "final answer ",
    ],
)
def test_a_long_text_of_openers_comes_to_an_end(opener: str) -> None:
    for length in (1_400, 19_000, 100_000):
        assert routed(opener * (length // len(opener))).reason


def test_a_conversation_without_a_question_is_open() -> None:
    assert route([]).task == "open"
    assert detect([Message("assistant", "What is 2+2?")]) is None
