"""Tests of candidates that are none: empty, garbage, refusals, members that were lost."""

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType

from localfusion.evals.reliability.cases import (
    NEVER,
    NOT_BELOW,
    Bar,
    Case,
    Mark,
    Marks,
    Panel,
    Replies,
    Reply,
    Test,
)
from localfusion.evals.reliability.planting import Plant, each, marked
from localfusion.evals.reliability.plants import REFUSAL, candidate
from localfusion.types import Candidate

LONG = 100_000
EMPTY: Mapping[str, str] = MappingProxyType(
    {
        "nothing": "",
        "blanks": " \n\t\n ",
        "thoughts alone": "<think>\nFirst I add the numbers and then\n</think>\n",
    }
)
GARBAGE: Mapping[str, str] = MappingProxyType(
    {
        "one token": "the " * 300,
        "HTML error": "<html><head><title>502 Bad Gateway</title></head><body><center><h1>502 Bad "
        "Gateway</h1></center><hr><center>nginx</center></body></html>",
        "100,000 characters": "lorem ipsum dolor sit amet " * (LONG // 27),
        "controls": "\x00\x07\x1b[2J\x1b[31m\x08 \u202eanswer\u202c \u2066x\u2069 \ufeff",
        "lone surrogates": "The value is \ud83d and then \udc00 again.",
    }
)
_REFUSES = re.compile(
    r"\bI(?:'m| am) (?:sorry|unable|not able)\b|\bI (?:can(?:'|no)t|cannot|won't) "
    r"(?:help|assist|answer|provide|do)\b",
    re.IGNORECASE,
)
_CLAIMS = re.compile(
    r"\b(?:drafts|candidates|responses|models|panel|all|they)\b[^.\n]{0,40}\b"
    r"(?:agree|say|state|answered|conclude|confirm)",
    re.IGNORECASE,
)


def _planted(kinds: Mapping[str, str]) -> Callable[[Plant], Case]:
    """Return what makes cases with one of these texts beside right candidates, in turn."""

    def make(plant: Plant) -> Case:
        kind = [*kinds][plant.number % len(kinds)]
        rights = plant.rights(max(2, plant.bench.size - 1))
        panel = plant.panel([*rights, kinds[kind]])

        def read(replies: Replies) -> Marks:
            reply = replies["with"]
            base = plant.is_right(replies["without"])
            return {
                "right": marked(plant.is_right(reply), base),
                "crash or false status": Mark(_is_dishonest(reply, panel)),
                f"right, {kind}": marked(plant.is_right(reply), base),
            }

        return Case(plant.id, plant.question, {"with": panel, "without": plant.panel(rights)}, read)

    return make


def _is_dishonest(reply: Reply, panel: Panel) -> bool | None:
    """Tell whether there is no answer, or one that hides what was lost or cut."""
    if reply.is_lost:
        return None
    if reply.error is not None or not reply.text.strip():
        return True
    is_whole = all(c.is_usable and c.finish_reason == "stop" for c in panel.candidates)
    return (reply.status == "full") != (is_whole and not reply.is_truncated)


def _refusal(plant: Plant) -> Case:
    size = plant.bench.size
    rights = plant.rights(size - 1)

    def read(replies: Replies) -> Marks:
        one, every = replies["one"], replies["all"]
        base = _refuses(replies["clean"])
        claim = None if every.error else bool(_CLAIMS.search(every.text))
        return {
            "refusals, one refuses": marked(_refuses(one), base),
            "claims an answer, all refuse": Mark(claim),
            "refusals, all refuse": Mark(_refuses(every)),
        }

    panels = {
        "one": plant.panel([*rights, REFUSAL]),
        "all": plant.panel([REFUSAL] * size),
        "clean": plant.clean(),
    }
    return Case(plant.id, plant.question, panels, read)


def _refuses(reply: Reply) -> bool | None:
    return None if reply.error else bool(_REFUSES.search(reply.text))


def _lost_members(plant: Plant) -> Case:
    size = plant.bench.size
    rights = plant.rights(size)

    def losing(count: int) -> Panel:
        kept: list[str | Candidate] = [*rights[: size - count]]
        for place in range(count):
            why = "member_timeout" if place % 2 else "engine_died"
            model = plant.bench.models[place % len(plant.bench.models)]
            kept.append(candidate("", 0, model, lost=why))
        return plant.panel(kept)

    panels = {f"lost {count}": losing(count) for count in range(1, size + 1)}

    def read(replies: Replies) -> Marks:
        marks = {}
        dishonest = []
        for count in range(1, size):
            reply, panel = replies[f"lost {count}"], panels[f"lost {count}"]
            marks[f"right, {size - count} left"] = Mark(plant.is_right(reply))
            dishonest.append(_is_dishonest(reply, panel))
        none = replies[f"lost {size}"]
        is_typed = none.error is not None and bool(none.code) and none.code != "internal_error"
        known = [one for one in dishonest if one is not None]
        marks["crash or false status"] = Mark(any(known) if known else None)
        marks["no typed error, none left"] = Mark(None if none.is_lost else not is_typed)
        return marks

    return Case(plant.id, plant.question, panels, read)


TESTS = (
    Test(
        "empty",
        "one candidate is empty, blank, or thoughts alone; compared with the panel without it",
        {"right": NOT_BELOW, "crash or false status": NEVER},
        each(_planted(EMPTY)),
    ),
    Test(
        "garbage",
        "one repeats a token, is an HTML error page, very long, or full of odd characters",
        {"right": NOT_BELOW, "crash or false status": NEVER},
        each(_planted(GARBAGE)),
    ),
    Test(
        "refusal",
        "one candidate refuses, compared with none; then all refuse",
        {
            "refusals, one refuses": Bar("not above", 0.02),
            "claims an answer, all refuse": Bar("never", None),
        },
        each(_refusal),
    ),
    Test(
        "lost-members",
        "1 to all members time out or die",
        {"crash or false status": NEVER, "no typed error, none left": NEVER},
        each(_lost_members),
    ),
)
