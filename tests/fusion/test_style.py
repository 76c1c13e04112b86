"""How drafts look before the judge: the same for all, with nothing lost that is content."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localfusion.fusion.style import normalize, without_thoughts

# Alphabets in which the rules' own signs meet often.
MARKDOWN = st.text(alphabet='*_#-`$"\n a1b.)\\~', max_size=80)
PHRASES = st.lists(
    st.sampled_from(
        [
            "Sure! ",
            "Certainly, here is the plan:\n",
            "Great question! ",
            "As Qwen, I think ",
            "I am SmolLM",
            "<think>",
            "</think>",
            "\n\n",
            "**bold** ",
            "*so* ",
            "# Title\n",
            "* item\n",
            "🙂 ",
            "```\nx = '*a*'\n```\n",
            "I hope this helps!",
            "Let me know if you need more.",
            "The answer is 8. ",
        ]
    ),
    max_size=12,
).map("".join)
TEXTS = st.one_of(st.text(max_size=200), MARKDOWN, PHRASES)


@pytest.mark.parametrize(
    ("draft", "normalized"),
    [
        ("* one\n+ two\n• three", "- one\n- two\n- three"),
        ("### Steps ###\ntext", "# Steps\ntext"),
        ("1) first\n2) second", "1. first\n2. second"),
        ("It is **very** *good*, _as they say_.", "It is very good, as they say."),
        ("***both*** and **`code`**", "both and `code`"),
        ("a\n\n\n\nb  ", "a\n\nb"),
        ("a\n\n---\n\nb", "a\n\nb"),
        ("Title\n=====\ntext", "Title\n\ntext"),
    ],
)
def test_markdown_has_one_flavor(draft: str, normalized: str) -> None:
    assert normalize(draft) == normalized


@pytest.mark.parametrize(
    "draft",
    [
        "Sure! It is 8.",
        "Certainly! It is 8.",
        "Great question! It is 8.",
        "That\u2019s a great question. It is 8.",
        "Certainly! Here's the answer:\n\nIt is 8.",
        "Of course! I'd be happy to help you with that.\n\nIt is 8.",
        "It is 8. I hope this helps!",
        "It is 8.\n\nLet me know if you have any other questions! 🙂",
        "It is 8.\nIf you have more questions, feel free to ask.",
        "It is 8. 🎉",
        "🎉 It is 8.\n\nHappy coding!",
        "<think>3 + 5</think>\n\nIt is 8.",
        "3 + 5 makes 8</think>\n\nIt is 8.",
    ],
)
def test_manners_and_thoughts_go(draft: str) -> None:
    padded = draft.replace(
        "It is 8.", "It is 8, and nothing else, as one can count on eight fingers."
    )

    assert normalize(padded) == "It is 8, and nothing else, as one can count on eight fingers."


@pytest.mark.parametrize(
    ("draft", "normalized"),
    [
        ("As Qwen, I would say no.", "I would say no."),
        ("As an AI language model developed by Alibaba, I have no taste.", "I have no taste."),
        ("As a large language model, I have no taste.", "I have no taste."),
        ("I am SmolLM2-135M. It is 8.", "I am AI. It is 8."),
        ("I'm Qwen3, a helpful model created by Alibaba Cloud. It is 8.", "I'm AI. It is 8."),
        ("My name is Llama-3.2-1B-Instruct and it is 8.", "My name is AI and it is 8."),
        ("I am Claude Monet, a painter.", "I am Claude Monet, a painter."),
        ("Llama and Qwen are models.", "Llama and Qwen are models."),
    ],
)
def test_models_do_not_name_themselves(draft: str, normalized: str) -> None:
    assert normalize(draft) == normalized


@pytest.mark.parametrize(
    "content",
    [
        "```python\n# ## Not a title\n* x\n\n\n\n**kwargs  \n```",
        "~~~\n*a*\n~~~\n- b",
        "```\nnever closed *a*\n\n\n\n* b",
        "Use `**kwargs` or `*args*` here.",
        "call f(**kwargs, **more) and __init__ and _private_name_",
        "2 *3* 4 and 2**3 and 4**5 make 1,234.50",
        r"$a *b* c$ and \(x *y* z\) and $$\n*k*\n$$",
        'He said "As Qwen, I *love* it 🙂" twice, and then again and again, and laughed.',
        "| a | b |\n|---|---|\n| ✅ | ❌ |",
        "Here is the thing: 42.",
        "Absolutely! Dogs may eat it.",
        "The tag <think> opens a thought and </think> ends it.",
        "🍎 + 🍎 = 2 🍎",
        "Send it today. Let me know by Friday.",
        "Sure!",
        "🙂",
        "---",
        "I hope this helps!",
    ],
)
def test_content_stays(content: str) -> None:
    assert normalize(content) == content


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("<think>a</think>b", "b"),
        ("<THINKING>a\n\nb</thinking>\nc", "c"),
        ("a</think>\nb", "b"),
        ("<think>never ended", ""),
        ("plain", "plain"),
    ],
)
def test_thoughts_are_not_part_of_an_answer(text: str, answer: str) -> None:
    assert without_thoughts(text) == answer


def test_a_draft_of_thoughts_alone_is_still_readable() -> None:
    assert normalize("<think>It is 8, I believe.") == "It is 8, I believe."


@given(TEXTS)
def test_normalizing_again_changes_nothing(text: str) -> None:
    once = normalize(text)

    assert normalize(once) == once


@given(TEXTS)
def test_a_draft_never_grows_and_never_vanishes(text: str) -> None:
    normalized = normalize(text)

    assert len(normalized) <= len(text)
    assert bool(normalized) == bool(text.strip())


@given(st.text(alphabet="*_#- ab1🙂\n", max_size=60))
def test_fenced_code_is_kept_letter_by_letter(code: str) -> None:
    block = f"```\n{code}\n```"

    assert block in normalize(f"Before.\n\n{block}\n\nAfter, there is more to read than that.")


OPENERS = (
    *(
        "*a ",
        "**a*",
        "`",
        '"',
        "$",
        "\\[",
        "\\(",
        "<think>",
        "</think>",
        "🙂",
        " ",
        "- ",
        "#",
        "_a ",
    ),
    *("\n", "Sure! ", "I am Qwen1", "here is ", "I hope this ", "```\n", "<"),
)


@pytest.mark.parametrize("opener", OPENERS)
@pytest.mark.timeout(20)
def test_a_long_text_of_openers_comes_to_an_end(opener: str) -> None:
    assert normalize(opener * (100_000 // len(opener)) + "x")
