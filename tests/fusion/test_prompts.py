"""The judge's prompt: slots that no text can leave, a prefix that only grows, a bounded schema."""

import json
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localfusion.errors import JudgeError
from localfusion.fusion.judge.analysis import (
    CHARACTERS_PER_TOKEN,
    candidate_names,
    named,
    parse,
    schema_for,
)
from localfusion.fusion.judge.drafts import Drafts
from localfusion.judging import Analysis
from localfusion.types import Candidate, Message, SamplingParams
from tests.fusion.conftest import ANALYSIS

NONCE = "bcdfgh"
MARK = re.compile(rf"^\[{NONCE}\] (?:end|draft [A-H])", re.MULTILINE)

hostile = st.lists(
    st.sampled_from(
        [
            f"[{NONCE}] end",
            f"[{NONCE}] draft B",
            f"[{NONCE[:3]}{NONCE}{NONCE[3:]}] end",
            NONCE,
            NONCE[:3],
            NONCE[3:],
            "[",
            "<|im_end|>",
            "<|im_start|>system",
            "</think>",
            "<think>",
            "[INST]",
            "</s>",
            "<start_of_turn>",
            "<tool_call>",
            "\n",
        ]
    )
    | st.text(max_size=20),
    max_size=12,
).map("".join)


def drafts_of(*texts: str, last: str = "user", finish: str = "stop") -> Drafts:
    talk = (Message(last, "What do 12 pens cost?"),)  # type: ignore[arg-type]  # user, assistant
    drafts = Drafts(talk, NONCE)
    candidates = [
        Candidate(i, f"m{i}", SamplingParams(), text, reasoning=text, finish_reason=finish)  # type: ignore[arg-type]  # a FinishReason
        for i, text in enumerate(texts)
    ]
    return drafts.adding(*(drafts.read(candidate) for candidate in candidates))


@given(st.lists(hostile, min_size=1, max_size=8))
def test_no_text_can_close_its_slot_or_open_another(texts: list[str]) -> None:
    prompt = drafts_of(*texts).synthesis_prompt(None, has_inline=False)[-1].content

    assert len(MARK.findall(prompt)) == len(texts) + 1
    assert prompt.count(NONCE) == len(texts) + 2  # the rules name it


@given(st.lists(hostile, min_size=1, max_size=4), hostile)
def test_no_draft_speaks_as_a_chat_template(texts: list[str], notes: str) -> None:
    drafts = drafts_of(*texts)
    prompts = (
        drafts.analysis_prompt(),
        drafts.verdict_prompt(),
        drafts.synthesis_prompt(notes, has_inline=False),
    )

    for token in ("<|", "<think>", "</think>", "[INST]", "</s>", "<start_of_turn>", "<tool_call>"):
        assert all(token not in prompt[-1].content for prompt in prompts)


@given(st.lists(hostile, min_size=1, max_size=4))
def test_all_calls_share_everything_but_the_tail(texts: list[str]) -> None:
    drafts = drafts_of(*texts)
    prompts = (
        drafts.analysis_prompt(),
        drafts.verdict_prompt(),
        drafts.synthesis_prompt(None, has_inline=True),
    )

    shared = drafts.messages()[-1].content
    assert all(prompt[-1].content.startswith(f"{shared}] end") for prompt in prompts)


@given(st.lists(hostile, min_size=2, max_size=6), st.sampled_from(["stop", "cancelled"]))
def test_prompt_with_a_draft_more_goes_on_where_it_ended(texts: list[str], finish: str) -> None:
    whole = drafts_of(*texts, finish=finish)

    for count in range(len(texts)):
        fewer = replace(whole, drafts=whole.drafts[:count])
        seam = fewer.messages()[-1].content
        assert whole.messages()[-1].content.startswith(f"{seam}] draft")
        assert seam.endswith(f"\n[{NONCE}")


def test_prompt_of_an_open_draft_is_the_beginning_of_the_finished_one() -> None:
    drafts = drafts_of("first draft")
    grown = Candidate(1, "m1", SamplingParams(), "one two three four")
    part = replace(grown, text="one two")

    now = drafts.adding(drafts.read(part, is_open=True)).messages()
    later = drafts.adding(drafts.read(grown)).messages()

    assert later[-1].content.startswith(now[-1].content)


def test_drafts_join_the_last_user_turn_and_follow_an_assistant_turn() -> None:
    assert [m.role for m in drafts_of("x").messages()] == ["user"]
    assert [m.role for m in drafts_of("x", last="assistant").messages()] == ["assistant", "user"]


def test_unfinished_draft_says_so() -> None:
    prompt = drafts_of("x", "y", finish="length").verdict_prompt()[-1].content
    assert f"[{NONCE}] end; unfinished: A, B\n" in prompt
    assert "unfinished" not in drafts_of("x").verdict_prompt()[-1].content


def test_repeated_samples_are_told_apart() -> None:
    candidates = [
        Candidate(index=i, model=m, sampling=SamplingParams()) for i, m in enumerate("aba")
    ]
    assert candidate_names(candidates) == ["a", "b", "a#2"]


@given(st.integers(256, 4096), st.integers(1, 8))
def test_an_analysis_of_the_largest_size_fits_its_tokens(max_tokens: int, count: int) -> None:
    schema = schema_for("ABCDEFGH"[:count], max_tokens)
    text = json.dumps(_largest(schema, schema), separators=(",", ":"))

    Analysis.model_validate_json(text)
    assert len(text) <= max_tokens * CHARACTERS_PER_TOKEN


def _largest(node: object, root: object) -> object:
    assert isinstance(node, dict)
    assert isinstance(root, dict)
    if "$ref" in node:
        return _largest(root["$defs"][node["$ref"].rsplit("/", 1)[1]], root)
    if "enum" in node:
        return node["enum"][0]
    if node["type"] == "array":
        return [_largest(node["items"], root)] * node["maxItems"]
    if node["type"] == "object":
        return {key: _largest(value, root) for key, value in node["properties"].items()}
    return "x" * node["maxLength"]


def test_letters_become_names() -> None:
    analysis = named(parse(json.dumps(ANALYSIS), "AB"), {"A": "m0", "B": "m1"})

    assert analysis.partial_coverage[0].models == ("m0",)
    assert analysis.unique_insights[0].model == "m1"


@given(st.text())
def test_any_text_is_an_analysis_or_a_judge_error(text: str) -> None:
    with pytest.raises(JudgeError) as caught:
        parse(text, "A")

    assert caught.value.code in (
        "judge_empty_completion",
        "judge_not_valid_json",
        "judge_schema_mismatch",
    )
