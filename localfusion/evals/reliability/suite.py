"""The suite: all tests by name, and a run of some of them on one judge."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from localfusion.config import nearest
from localfusion.errors import ConfigError
from localfusion.evals.datasets.pairs import Pair
from localfusion.evals.job import IN_FLIGHT, Progress
from localfusion.evals.reliability import (
    conflicts,
    faults,
    forms,
    injections,
    losses,
    majorities,
    presentation,
    programs,
    sheets,
)
from localfusion.evals.reliability.asking import Asker, Setting, settings_of
from localfusion.evals.reliability.cases import (
    SHOWN,
    Asked,
    Bar,
    Bench,
    Case,
    Mark,
    Panel,
    Reply,
    Test,
)
from localfusion.evals.reliability.faults import PairAsked
from localfusion.evals.reliability.measure import (
    Finding,
    Marked,
    Outcome,
    Share,
    find,
    worst,
)
from localfusion.evals.reliability.questions import questions

COUNT, QUICK = 200, 60
"""Cases of a test."""
SMALLEST, LARGEST = 3, 4
"""Candidates of a panel: all orders of more would be too many."""
EXAMPLES = 3
TESTS: Mapping[str, Test] = {
    test.name: test
    for module in (
        majorities,
        presentation,
        conflicts,
        sheets,
        forms,
        programs,
        injections,
        losses,
        faults,
    )
    for test in module.TESTS
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which tests, how large.

    Attributes:
        tests: Names; None: all that can be run.
        count: Cases of each test.
        pairs: Of a user's file, for ``pair-skill``.
        at_once: Judgements in flight.
    """

    tests: tuple[str, ...] | None = None
    count: int = COUNT
    seed: int = 0
    pairs: Sequence[Pair] = ()
    at_once: int = IN_FLIGHT


@dataclass(frozen=True, slots=True)
class Example:
    """A case that went against its criterion, or could not be read."""

    case: str
    criterion: str
    question: str
    replies: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class TestReport:
    """What came of one test."""

    __test__ = False

    name: str
    construction: str
    cases: int
    outcome: Outcome
    findings: tuple[Finding, ...]
    failed: tuple[Example, ...]
    unscored: tuple[Example, ...]


@dataclass(frozen=True, slots=True)
class JudgeReport:
    """What came of the suite.

    Attributes:
        size: Candidates of a panel.
        alone: How often the judge is right without a panel, on the questions with one answer.
        problems: What went wrong on the way; ``lost``: why the run could not be finished, or None.
        notes: What a reader must know of how it was done.
    """

    preset: str
    judge: str
    policy: str
    count: int
    size: int
    seed: int
    alone: Share
    tests: tuple[TestReport, ...]
    identity: Mapping[str, object] = field(default_factory=dict)
    calls: int = 0
    notes: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    lost: str | None = None


def choose(names: Iterable[str] | None, *, has_pairs: bool) -> list[Test]:
    """Return tests by name; ``inject`` stands for all of that name. None: all that can be run.

    Raises:
        ConfigError: there is no such test, or it needs a file.
    """
    if names is None:
        return [test for name, test in TESTS.items() if has_pairs or name != "pair-skill"]
    found: dict[str, Test] = {}
    for name in names:
        chosen = {name: TESTS[name]} if name in TESTS else {}
        if name == "inject":
            chosen = {n: t for n, t in TESTS.items() if n.startswith("inject-")}
        if not chosen:
            raise ConfigError(f"--tests: there is no test {name[:64]!r}; {nearest(name, TESTS)}")
        found |= chosen
    if "pair-skill" in found and not has_pairs:
        raise ConfigError("--tests pair-skill reads pairs of a file; name it: --data FILE")
    return [*found.values()]


def bench_of(setting: Setting, wanted: Wanted) -> Bench:
    """Return what the tests are made with."""
    panel = setting.preset.panel
    size = min(max(setting.preset.candidates, SMALLEST), LARGEST)
    models = tuple(dict.fromkeys(member.model for member in panel))
    return Bench(wanted.count, size, models, setting.judge, wanted.seed, pairs=wanted.pairs)


async def examine_judge(setting: Setting, wanted: Wanted, progress: Progress) -> JudgeReport:
    """Run tests on a preset's judge and measure them.

    An engine that is lost for good ends the run early, never without a report.

    Raises:
        ConfigError: there is no such test.
    """
    tests = choose(wanted.tests, has_pairs=bool(wanted.pairs))
    bench = bench_of(setting, wanted)
    asker = Asker(setting, wanted.seed, wanted.at_once, progress)
    alone = await _alone(asker, bench, tests)
    bench = replace(bench, alone=alone)
    cases = {test.name: [*test.build(bench)] for test in tests}
    everything = [case for found in cases.values() for case in found]
    await asker.ask((p for c in everything for p in c.panels.values()), "judge reads panels")
    reports = tuple(_measured(test, cases[test.name], asker, bench) for test in tests)
    rights = [_is_right(q, alone[q.id]) for q in questions(bench.count, bench.seed)]
    known = [one for one in rights if one is not None]
    return JudgeReport(
        preset=setting.name,
        judge=setting.judge,
        policy=settings_of(setting.preset).policy,
        count=wanted.count,
        size=bench.size,
        seed=wanted.seed,
        alone=Share(sum(known), len(known)),
        tests=reports,
        identity=setting.identity,
        calls=setting.seen.calls,
        notes=_notes(setting, wanted),
        problems=(*asker.problems,),
        lost=asker.lost,
    )


async def _alone(asker: Asker, bench: Bench, tests: Sequence[Test]) -> dict[str, Reply]:
    """Ask the judge every question of the tests without a panel."""
    asked: dict[str, Asked] = {q.id: q for q in questions(bench.count, bench.seed)}
    for test in tests:
        for case in test.build(bench):
            if not isinstance(case.asked, PairAsked):
                asked[case.asked.id] = case.asked
    panels = {id: Panel(one) for id, one in asked.items()}
    await asker.ask(panels.values(), "judge alone")
    return {id: asker.reply(panel) for id, panel in panels.items()}


def _is_right(asked: Asked, reply: Reply | None) -> bool | None:
    if reply is None or reply.error is not None:
        return None
    return reply.passed if isinstance(asked, programs.Program) else asked.right(reply.text)


def _measured(test: Test, cases: Sequence[Case], asker: Asker, bench: Bench) -> TestReport:
    marked: dict[str, list[Marked]] = {name: [] for name in test.criteria}
    failed: list[Example] = []
    unscored: list[Example] = []
    for case in cases:
        replies = {name: asker.reply(panel) for name, panel in case.panels.items()}
        alone = _is_right(case.asked, bench.alone.get(case.asked.id))
        for name, mark in case.read(replies).items():
            marked.setdefault(name, []).append((case.id, mark, alone))
            bar = test.criteria.get(name, SHOWN)
            if mark.met is None and name in test.criteria:
                unscored.append(_example(case, name, replies))
            elif _is_against(bar, mark):
                failed.append(_example(case, name, replies))
    findings = tuple(
        find(name, _bar(test.criteria.get(name, SHOWN), bench), entries)
        for name, entries in marked.items()
    )
    return TestReport(
        test.name,
        test.construction,
        len(cases),
        worst(finding.outcome for finding in findings),
        findings,
        tuple(failed[:EXAMPLES]),
        tuple(unscored),
    )


def _bar(bar: Bar, bench: Bench) -> Bar:
    """Set the limit that depends on the panel's size: one of its candidates, by chance."""
    return replace(bar, limit=1 / bench.size) if bar.kind == "above" and bar.limit is None else bar


def _is_against(bar: Bar, mark: Mark) -> bool:
    """Tell whether a case, by itself, is one that the bar does not want."""
    if bar.kind == "shown" or mark.met is None:
        return False
    is_bad = mark.met if bar.kind in ("at most", "not above", "never") else not mark.met
    if bar.kind in ("not above", "not below"):  # worse than what it is compared with
        return is_bad and mark.base is not None and mark.base != mark.met
    return is_bad


def _example(case: Case, criterion: str, replies: Mapping[str, Reply]) -> Example:
    told = {name: reply.error or reply.text for name, reply in replies.items()}
    return Example(case.id, criterion, case.asked.text, told)


def _notes(setting: Setting, wanted: Wanted) -> tuple[str, ...]:
    policy = setting.preset.policy
    notes = [
        "plants are rendered from templates; candidates stand in slots that the test turns, "
        "whatever the preset's order",
        "judge-fault tests the product with a simulated judge in the real one's place",
    ]
    if settings_of(setting.preset).policy != policy:
        notes.append(
            f"policy {policy} can answer without the judge; every panel was judged by fuse"
        )
    if wanted.count < COUNT:
        notes.append(
            f"{wanted.count} cases of each test: margins of 5 points are mostly undecided below "
            f"{COUNT}"
        )
    if not wanted.pairs:
        notes.append("pair-skill was not run: name a file of pairs with --data")
    return tuple(notes)
