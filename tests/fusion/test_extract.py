"""The answer proper out of texts as models write them; equal answers become equal values."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localfusion.errors import RequestError
from localfusion.fusion.agreement.extract import Extracted, Extractor, Kind, same
from localfusion.fusion.agreement.patterns import last_match

CITIES = ("Paris", "London", "New York", "York")


def value(kind: Kind, text: str, options: tuple[str, ...] = ()) -> str | None:
    found = Extractor(kind, options=options).extract(text)
    return found.value if found else None


def number(value: str) -> Extracted:
    return Extracted("number", value, value)


@pytest.mark.parametrize(
    "text",
    [
        "18",
        "18.0",
        "18.",
        "$18",
        "$18.00",
        "**18**",
        "18 dollars",
        "+18",
        "1.8e1",
        "1.8 \u00d7 10^1",
        "1.8 \\times 10^{1}",
        "36/2",
        "17 2/2",
        "\\frac{36}{2}",
        "$\\dfrac{36}{2}$",
        "18%",
        "18\\%",
        "eighteen",
        "Answer: 18",
        "**Answer:** $18",
        "**Answer**: 18 dollars",
        "Final answer: 18 apples after 3 days",
        "The answer is 18.",
        "The final answer is $\\boxed{18}$.",
        "\\boxed{18\\text{ dollars}}",
        "\\[ \\boxed{x = 18} \\]",
        "#### 18",
        "She eats 3 and bakes 4.\nAnswer: 9 * 2 = 18",
        "16 - 3 - 4 = 9\nSo she makes 9 * 2 = $18 every day at the market.",
        "She sells 9 for 2 each.\nSo she makes 18",
        "Answer: 17\nNo, that is wrong. Let me count again.\nAnswer: 18",
        "The answer is 18 (9 times 2).",
        "**Final Answer**\n\n18",
        "Answer:\n\n$$\n18\n$$",
        "Answer: First, she has 3 boxes.\nThen she gets 15.\nIn total she has 18 boxes.",
        "In 3 days she makes **18** dollars at 2 markets",
        "She makes 18 dollars.\n\nLet me know if you have questions!",
        "<think>\nIs it 17?\nAnswer: 17\n</think>\nIt is 18.",
        "Antwort: 18",
        "答案:18",
        "\uff11\uff18",
        "Respuesta: 18 euros",
        "There are 18 integers in the solution of |x + 5| < 10.",
        "I have 18 fruits (3 bananas + 15 others).",
        "The remainder when 9 is divided by 2 is 18",
        "She has eighteen dollars.",
    ],
)
def test_a_number_is_found_however_it_is_written(text: str) -> None:
    assert value("number", text) == "18"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1,234.5", "1234.5"),
        ("1 234,5", "1234.5"),
        ("1.234,5", "1234.5"),
        ("1'234.5", "1234.5"),
        ("1\u202f234.5", "1234.5"),
        ("1{,}234.5", "1234.5"),
        ("3 million", "3000000"),
        ("-5", "-5"),
        ("\u22125", "-5"),
        ("1½", "1.5"),
        ("10\u00b2", "100"),
        ("1.5 × 10\u207b\u00b3", "0.0015"),  # noqa: RUF001  as models write it
        ("1,00,000", "100000"),
        ("0,125", "0.125"),
        ("5k", "5000"),
        ("twenty-five", "25"),
        ("-0", "0"),
    ],
)
def test_a_number_has_one_canonical_form(text: str, expected: str) -> None:
    assert value("number", f"Answer: {text}") == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "I cannot tell.",
        "Answer: 3 or 4",
        "It is 3 or 4",
        "Answer: between 3 and 4",
        "Answer: (3, 4)",
        "Answer: (3,4)",
        "Answer: 5 feet 11 inches",
        "Answer: 3-4",
        "Answer: 3:45",
        "Answer: 12/24/1937",
        "Answer: 2\\sqrt{3}",
        "\\boxed{5x}",
        "\\boxed{3+4i}",
        "Answer: x = 5, y = 3",
        "Answer: 1/0",
        "It was version 1.2.3",
        "Answer: GPT-4",
        f"Answer: {'9' * 500}",
        "<think>18",
        "Answer: 5e3000",
        "Answer: 5e-3000",
        "12 eggs, 5x",
        "There are 3 or 4 boxes.",
        "It is \\sqrt{2}",
        "Answer: 1 in 6",
        "She has twenty-five or thirty.",
        "It is two hundred.",
        "This one is right.",
    ],
)
def test_what_is_not_one_number_is_no_vote(text: str) -> None:
    assert value("number", text) is None


@pytest.mark.parametrize(
    "text",
    [
        "B",
        "(B)",
        "b)",
        "B.",
        "B) London",
        "**B**",
        "**B) London**",
        "Answer: B",
        "answer: (b)",
        "The correct answer is (B).",
        "The answer is B because it rains there.",
        "The answer is **(B) London**.",
        "\\boxed{B}",
        "\\boxed{\\text{(B)}}",
        "#### B",
        "It has a queen, so the right one is option B.",
        "B) London\n\nIt has had a queen.",
        "London",
        "Answer: London",
        "So it must be London.",
        "We know (A) is wrong.\nSo it is (B).",
        "The best option is B",
    ],
)
def test_a_choice_is_found_by_letter_or_by_text(text: str) -> None:
    assert value("choice", text, CITIES) == "B"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Answer: A or B",
        "(A) and (B)",
        "A, B",
        "Answer: B) Paris",
        "Answer: (H)",
        "A dog ran away.",
        "I think so.",
        "It is not London.",
        "It is London or Paris.",
        "A) Paris\nB) London",
    ],
)
def test_an_unclear_choice_is_no_vote(text: str) -> None:
    assert value("choice", text, CITIES) is None


def test_an_option_within_another_is_not_taken_for_it() -> None:
    assert value("choice", "Answer: New York", CITIES) == "C"
    assert value("choice", "It must be New York City", CITIES) == "C"
    assert value("choice", "Answer: York", CITIES) == "D"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Yes", "true"),
        ("No.", "false"),
        ("Yes, 17 is a prime number.", "true"),
        ("No, since 3 divides it.\nIt has three factors.", "false"),
        ("**True**", "true"),
        ("The statement is false.", "false"),
        ("The statement is not true.", "false"),
        ("It isn't correct.", "false"),
        ("That is not false.", "true"),
        ("True and not True is False", "false"),
        ("not ( True ) and ( True ) = **False**", "false"),
        ("Answer: yes", "true"),
        ("Answer: No because it rains", "false"),
        ("\\boxed{\\text{True}}", "true"),
        ("Antwort: ja", "true"),
        ("True and true.\nAnswer: False", "false"),
        ("Yes and no.", None),
        ("Maybe.", None),
        ("There is no way to know.", None),
        ("Answer: it depends", None),
    ],
)
def test_yes_and_no_are_told_apart(text: str, expected: str | None) -> None:
    assert value("boolean", text) == expected


@pytest.mark.parametrize(
    "text",
    [
        '{"b": 1, "a": [1.0, "x"]}',
        'Here it is:\n```json\n{"a": [1, "x"], "b": 1.0}\n```\nDone [1].',
        'Draft: {"a": []}. Final: {"a": [1, "x"], "b": 1}',
        '{"reasoning": "long", "a": [1, "x"], "b": 1}',
    ],
)
def test_json_is_equal_by_content(text: str) -> None:
    assert value("json", text) == '{"a": [1, "x"], "b": 1}'


@pytest.mark.parametrize("text", ["", "none", '{"a": NaN}', "{'a': 1}", '{"a": 1e999}', "[" * 5000])
def test_what_is_not_json_is_no_vote(text: str) -> None:
    assert value("json", text) is None


def test_code_is_equal_without_comments_and_layout() -> None:
    first = '```python\ndef double(x):\n    """Double it."""\n    return x * 2  # twice\n```'
    second = "Here:\n```\ndef double( x ):\n\n    return (x*2)\n```\nCall it:\n```\ndouble(2)\n```"
    other = "def double(x):\n    return x + x"

    assert value("code", first) == value("code", second) is not None
    assert value("code", other) not in (None, value("code", first))


def test_code_in_other_languages_is_equal_but_for_blank_lines() -> None:
    first = value("code", "```c\nint x = 1;  \n\nreturn x;\n```")

    assert first == value("code", "```c\nint x = 1;\nreturn x;\n```") is not None


@pytest.mark.parametrize("text", ["Yes.", "It cannot be done", "", "```\n\n```"])
def test_prose_is_no_code(text: str) -> None:
    assert value("code", text) is None


@pytest.mark.parametrize(
    ("first", "second"),
    [("The Eiffel Tower.", "eiffel  tower"), ("Answer: **C++**", "C++"), ("Well.\nA", "a")],
)
def test_text_is_equal_but_for_case_space_punctuation_articles(first: str, second: str) -> None:
    assert value("text", first) == value("text", second) is not None


@pytest.mark.parametrize(
    ("first", "second"), [("C#", "C"), ("3.5", "35"), ("-5", "5"), ("C++", "C")]
)
def test_text_keeps_the_signs_that_matter(first: str, second: str) -> None:
    assert value("text", first) != value("text", second)


def test_prose_is_no_text_answer() -> None:
    assert value("text", "so it goes " * 30) is None


def test_a_pattern_gives_its_first_group_of_the_last_match() -> None:
    by_group = Extractor("regex", r"code\s*=\s*(\w+)").extract("code = X1\nbut then: code  =\n Y2.")
    whole = Extractor("regex", r"[A-Z]\d").extract("X1, then Y2.")

    assert by_group is not None
    assert whole is not None
    assert (by_group.value, whole.value) == ("Y2", "Y2")
    assert Extractor("regex", r"Z\d").extract("X1") is None


@pytest.mark.parametrize(
    "pattern",
    [
        *("(a+)+", "(a|b)*", "(a|aa)+$", "((a*))*", "(?:a{0,9}){0,9}", r"(\d+,?)*", "(a?b){3,}"),
        *("a*a*a*a*a*b", "a?" * 50, "(?:a?){40}", "(a|b){99}", "(a+){999999999}"),
        *("(", "[", "", "x" * 257, r"(a)\1", "(?P<x>a)(?P=x)", "(?x)a # (", "[[a"),
    ],
)
def test_a_pattern_that_may_run_away_is_refused(pattern: str) -> None:
    with pytest.raises(RequestError, match=r"fusion\.extract\.pattern") as refusal:
        Extractor("regex", pattern)

    assert refusal.value.param == "fusion.extract.pattern"


USUAL_PATTERNS = (
    *(r"answer:\s*(.+?)\s*$", r"\b(yes|no)\b", r"(?i)total\s*=\s*(-?\d+(?:\.\d+)?)"),
    *(r'"x":\s*"([^"]*)"', r"\d{1,3}(?:,\d{3})*", r"(?P<unit>\d+)\s*kg", r"(?:abc)+"),
    *(r"a[)(|*+]b", r"\(\w+\)"),
)


@pytest.mark.parametrize("pattern", USUAL_PATTERNS)
def test_usual_patterns_are_allowed(pattern: str) -> None:
    assert Extractor("regex", pattern).extract("nothing of it") is None


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "pattern", [".*a.*b", r"(?s)(.*)x(.*)y", r"\s*\s*\s*b", "a?a?a?a?a?c", "a*a*a*b"]
)
def test_an_allowed_pattern_comes_to_an_end_on_any_text(pattern: str) -> None:
    assert last_match(pattern, "a " * 25_000 + "a" * 50_000) is None


def test_a_pattern_belongs_to_kind_regex_alone() -> None:
    with pytest.raises(RequestError, match="kind regex"):
        Extractor("regex")
    with pytest.raises(RequestError, match="kind regex"):
        Extractor("number", "x")


def test_numbers_are_the_same_within_a_millionth() -> None:
    assert same(number("1000000"), number("1000000.5"))
    assert not same(number("1000000"), number("1000002"))
    assert same(number("0"), number("1e-13"))
    assert not same(number("1"), Extracted("text", "1", "1"))


def test_what_is_shown_is_what_the_candidate_wrote() -> None:
    found = Extractor("number").extract("I add them.\n**Answer:** $1,234.50 in total.")

    assert found == Extracted("number", "1234.5", "1,234.50 in total.")


KINDS: tuple[Kind, ...] = ("number", "choice", "boolean", "json", "code", "text")
PARTS = (
    *(
        "Answer: ",
        "\\boxed{",
        "}",
        "**",
        "\n",
        "#### ",
        " = ",
        "1",
        ",",
        ".",
        "/",
        "^",
        "(B)",
        "A. ",
    ),
    *(
        "no",
        "true ",
        "not ",
        "{",
        "[",
        '"a":',
        "```",
        "\\frac{1}",
        "½",
        "\u2212",
        "<think>",
        "</think>",
    ),
    *("\u0663", "x ", " or ", "\u00b2", "e5", "million", "答案:", "def f(:", "-"),
)
ANSWERS = st.lists(st.sampled_from(PARTS), max_size=15).map("".join)


@given(st.sampled_from(KINDS), st.one_of(ANSWERS, st.text(max_size=100)))
def test_no_text_makes_extraction_fail(kind: Kind, text: str) -> None:
    found = Extractor(kind, options=CITIES if kind == "choice" else ()).extract(text)

    assert found is None or found.value


@given(st.sampled_from(KINDS[:3]), ANSWERS)
def test_extracting_a_canonical_value_gives_it_again(kind: Kind, text: str) -> None:
    found = Extractor(kind).extract(text)

    if found is not None:
        assert value(kind, f"Answer: {found.value}") == found.value


@given(
    st.integers(-(10**12), 10**12),
    st.sampled_from(["{}", "{:,}", "{}.0", "${:,}.00", "**{}**", "= {}"]),
)
def test_an_integer_is_the_same_in_every_notation(integer: int, notation: str) -> None:
    assert value("number", f"Answer: {notation.format(integer)}") == f"{integer:.15g}"


@given(st.floats(-1e9, 1e9, allow_nan=False))
def test_a_float_is_itself(exact: float) -> None:
    found = Extractor("number").extract(f"The answer is {exact!r}.")

    assert found is not None
    assert same(found, number(repr(exact)))


@given(
    st.dictionaries(
        st.text(max_size=5), st.integers() | st.text(max_size=5), min_size=1, max_size=4
    )
)
def test_json_is_equal_in_every_order_and_layout(fields: dict[str, int | str]) -> None:
    turned = dict(reversed(fields.items()))

    assert (
        value("json", json.dumps(fields)) == value("json", json.dumps(turned, indent=2)) is not None
    )


OPENERS = (
    *(
        "1",
        "1 ",
        "1,",
        "1/",
        "-",
        "\\boxed{",
        "answer is ",
        "answer: ",
        "{",
        "[1,",
        '"',
        "(B) ",
        "**",
    ),
    *("```\n", "#### 1\n", "(", "not ", " ", "\n", "½", "a\u0301", "<think>", "10^", "\\frac", "."),
)


@pytest.mark.timeout(30)
@pytest.mark.parametrize("kind", KINDS)
def test_a_long_text_of_openers_comes_to_an_end(kind: Kind) -> None:
    extractor = Extractor(kind, options=CITIES if kind == "choice" else ())

    found = [extractor.extract(opener * (100_000 // len(opener))) for opener in OPENERS]

    assert len(found) == len(OPENERS)
