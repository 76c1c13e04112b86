"""The test of a judge that fails: what the product documents for it, and the pairs of a file."""

from collections.abc import Iterator

from localfusion.evals.datasets.pairs import Pair
from localfusion.evals.reliability.cases import (
    NEVER,
    SHOWN,
    Bar,
    Bench,
    Case,
    Fault,
    Mark,
    Marks,
    Panel,
    Replies,
    Reply,
    Test,
)
from localfusion.evals.reliability.planting import Plant, plants
from localfusion.evals.reliability.plants import candidates

FAULTS: tuple[Fault, ...] = ("empty", "cut", "no analysis", "dead before", "dead after")


def _judge_fault(bench: Bench) -> Iterator[Case]:
    for plant in plants(bench):
        yield _failing(plant, FAULTS[plant.number % len(FAULTS)])


def _failing(plant: Plant, fault: Fault) -> Case:
    panel = plant.panel(plant.rights(plant.bench.size), fault=fault)
    texts = {candidate.text for candidate in panel.candidates}

    def read(replies: Replies) -> Marks:
        is_other = not _is_documented(fault, replies["failing"], texts)
        return {"not as documented": Mark(is_other), f"not as documented, {fault}": Mark(is_other)}

    return Case(plant.id, plant.question, {"failing": panel}, read)


def _is_documented(fault: Fault, reply: Reply, texts: set[str]) -> bool:
    """Tell whether a failing judge ends as docs/fusion.md says."""
    match fault:
        case "empty" | "dead before":  # a candidate answers in its stead
            is_own = reply.text in texts and (reply.reason or "").startswith("judge_")
            return reply.status == "panel_only" and is_own
        case "cut":
            return reply.error is None and reply.finish_reason == "length"
        case "no analysis":
            return reply.status == "degraded" and bool(reply.text) and bool(reply.reason)
        case "dead after":  # what the client has read cannot be taken back
            return reply.error is not None and reply.code not in (None, "internal_error")


def _pair_skill(bench: Bench) -> Iterator[Case]:
    for number, pair in enumerate(bench.pairs):
        yield _pair_case(bench, PairAsked(pair, number))


class PairAsked:
    """A pair of a user's file as something that is asked."""

    def __init__(self, pair: Pair, number: int) -> None:
        self.pair = pair
        self.id = f"{pair.id}-{number}"

    @property
    def text(self) -> str:
        return self.pair.question

    @property
    def ideal(self) -> str:
        return self.pair.better

    def right(self, text: str) -> bool | None:
        """Return None: what the judge would answer itself cannot be compared with the pair."""
        return None


def _pair_case(bench: Bench, asked: PairAsked) -> Case:
    texts = [asked.pair.better, asked.pair.worse]

    def read(replies: Replies) -> Marks:
        first, second = _chosen(replies["better first"]), _chosen(replies["better second"])
        if first is None or second is None:
            right, same = None, None
        else:
            right, same = (first, second) == (0, 1), first != second
        return {
            "consistent and right": Mark(right),
            "consistent": Mark(same),
            f"consistent and right, {asked.pair.group}": Mark(right),
        }

    panels = {
        "better first": Panel(asked, candidates(texts, bench.models), way="choice"),
        "better second": Panel(asked, candidates(texts[::-1], bench.models), way="choice"),
    }
    return Case(asked.id, asked, panels, read)


def _chosen(reply: Reply) -> int | None:
    """Return the slot that is likelier, whatever the probability of writing anew."""
    if not reply.choice:
        return None
    return max(reply.choice, key=lambda slot: (reply.choice or {})[slot])


TESTS = (
    Test(
        "judge-fault",
        "a simulated judge in this preset's place gives nothing, is cut, makes no analysis, dies",
        {"not as documented": NEVER},
        _judge_fault,
    ),
    Test(
        "pair-skill",
        "pairs of a file (--data), in both orders, by the judge's choice in one token",
        {"consistent and right": Bar("above", 0.25), "consistent": SHOWN},
        _pair_skill,
    ),
)
