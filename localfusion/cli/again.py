"""Replays and explanations as lines for people, from their JSON form."""

import difflib
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import cast

from localfusion.cli.show import analysis_lines
from localfusion.explain.sentences import sentences
from localfusion.judging import Analysis
from localfusion.traces import Json

JUDGED = ("verdict", "analysis", "synthesis")
"""Stages of the judge: of a replay no other time says anything."""
MOST_COLUMN = 100
_MARKS = {"equal": " ", "replace": "|", "delete": "<", "insert": ">"}


def replay_lines(told: Json, width: int) -> Iterator[str]:
    """Render a replay: what was changed, both answers side by side, what each took."""
    changes = cast("Json", told["changes"])
    named = ", ".join(f"{name} {_short(value)}" for name, value in changes.items())
    before = cast("Json", told["original"])["answer"]
    after = cast("Json", told["answer"])
    yield f"replay of {told['replay_of']}; changed: {named or 'nothing'}"
    kept = "it is not kept" if told["id"] is None else f"its trace is {told['id']}"
    yield f"nobody of the panel was asked; {kept}"
    yield ""
    if before is None:
        yield f"the recorded run had no answer: {cast('Json', told['original'])['error']}"
        yield from ("", "--- now", str(after["text"]), "", *_judged("now", after))
        return
    first = cast("Json", before)
    yield from _beside(str(first["text"]), str(after["text"]), width)
    yield ""
    if first["text"] == after["text"]:
        yield "the same, word for word"
    yield from _judged("then", first)
    yield from _judged("now", after)


def _short(value: object) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= 60 else f"{text[:60]}…"


def _beside(before: str, after: str, width: int) -> Iterator[str]:
    """Put two texts beside one another, a sentence a row: | changed, < gone, > new."""
    column = min(MOST_COLUMN, (width - 3) // 2)
    first, second = ([s.text.strip() for s in sentences(text)] for text in (before, after))
    yield f"{'then':<{column}}   now"
    matcher = difflib.SequenceMatcher(None, first, second)
    for tag, a, b, c, d in matcher.get_opcodes():
        for left, right in zip_longest(first[a:b], second[c:d], fillvalue=""):
            rows = zip_longest(_wrap(left, column), _wrap(right, column), fillvalue="")
            for own, other in rows:
                yield f"{own:<{column}} {_MARKS[tag]} {other}".rstrip()


def _wrap(text: str, column: int) -> Sequence[str]:
    return textwrap.wrap(text, column) or [""]


def _judged(name: str, answer: Json) -> Iterator[str]:
    """Say who judged, what that took, and what it found."""
    stages = cast("Mapping[str, Json]", answer["stages"])
    taken = [stages[stage] for stage in JUDGED if stage in stages]
    seconds = sum(float(str(stage["seconds"])) for stage in taken)
    usages = [cast("Mapping[str, int]", stage["usage"]) for stage in taken]
    read = sum(usage["prompt_tokens"] for usage in usages)
    written = sum(usage["completion_tokens"] for usage in usages)
    reason = "" if answer["reason"] is None else f" ({answer['reason']})"
    judged = f"judging took {seconds:.1f} s, {read} tokens in, {written} out"
    yield (
        f"{name}: {answer['status']}{reason} by {answer['model']}, policy {answer['policy']}; "
        f"{judged if taken else 'no judge was asked'}"
    )
    judging = cast("Json | None", answer["judging"])
    verdict = None if judging is None else cast("Json | None", judging["verdict"])
    if verdict is not None:
        shares = cast("Mapping[str, float]", verdict["probabilities"])
        told = [f"candidate {index} {share:.2f}" for index, share in shares.items()]
        yield f"{name}: verdict {', '.join(told)}, none alone {verdict['synthesize']:.2f}"
    if answer["analysis"] is not None:
        analysis = Analysis.model_validate(answer["analysis"])
        yield from (f"{name}: {text}" for text in analysis_lines(analysis))


def explanation_lines(told: Json) -> Iterator[str]:
    """Render an explanation: the verdict, its evidence, then where each sentence stands."""
    yield f"{told['verdict']}: {told['words']}"
    yield from (f"  {text}" for text in cast("list[str]", told["evidence"]))
    if told["final"] is not None:
        right = {True: ", which is right", False: ", which is wrong", None: ""}[
            cast("bool | None", told["is_right"])
        ]
        yield f"the answer comes to {told['final']}{right}"
    names = cast("list[str]", told["candidates"])
    yield from _contradiction(cast("Json | None", told["contradiction"]), names)
    for loss in cast("list[Json]", told["losses"]):
        mattered = {True: "it mattered", False: "it did not matter", None: "nobody knows"}[
            cast("bool | None", loss["has_mattered"])
        ]
        yield f"{loss['kind']}: {loss['name']}: {loss['detail']}; whether it mattered: {mattered}"
    yield ""
    for sentence in cast("list[Json]", told["sentences"]):
        yield from _sentence(sentence)


def _contradiction(told: Json | None, names: Sequence[str]) -> Iterator[str]:
    if told is None:
        return
    stands = []
    for stand in cast("Iterable[Json]", told["stands"]):
        who = ", ".join(names[index] for index in cast("Iterable[int]", stand["indices"]))
        followed = ", followed" if stand["is_followed"] else ""
        stands.append(f"{stand['answer']} ({who}{followed})")
    named = {
        True: "the analysis says so",
        False: "the analysis does not say so",
        None: "no analysis",
    }
    yield f"drafts differ: {'; '.join(stands)}; {named[cast('bool | None', told['is_named'])]}"


def _sentence(told: Json) -> Iterator[str]:
    if told["is_blank"]:
        return
    yield f"> {str(told['text']).strip()}"
    for support in cast("list[Json]", told["support"]):
        yield f"    {support['score']:.2f} {support['model']}: {support['text']}"
    for other in cast("list[Json]", told["against"]):
        yield f"    otherwise {other['model']}: {other['text']}"
    if not told["support"]:
        yield "    in no draft"
