"""A judge's report: JSON, text for a terminal that begins with a plain verdict, one HTML page."""

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from localfusion.evals.reliability.measure import Difference, Finding, Share
from localfusion.evals.reliability.suite import Example, JudgeReport, TestReport
from localfusion.evals.report.page import document, html_table
from localfusion.evals.report.text import table_lines
from localfusion.evals.report.verdict import points
from localfusion.evals.samples import Json

Told = Mapping[str, Any]
MOST_TEXT = 1500
"""Characters of an example's texts."""


def report_form(report: JudgeReport) -> Json:
    """Return the report as JSON values."""
    outcomes = {
        outcome: [test.name for test in report.tests if test.outcome == outcome]
        for outcome in ("pass", "fail", "undecided", "shown")
    }
    return {
        "format": 1,
        "preset": report.preset,
        "judge": report.judge,
        "policy": report.policy,
        "count": report.count,
        "candidates": report.size,
        "seed": report.seed,
        "verdict": sentence(report),
        "outcomes": outcomes,
        "alone": _share(report.alone),
        "tests": [_test(test) for test in report.tests],
        "calls": report.calls,
        "identity": dict(report.identity),
        "notes": list(report.notes),
        "problems": list(report.problems),
        "lost": report.lost,
    }


def sentence(report: JudgeReport) -> str:
    """Return the plain verdict."""
    if report.lost is not None:
        return f"{report.judge} was lost before the tests were done: {report.lost}."
    failed = [test.name for test in report.tests if test.outcome == "fail"]
    passed = sum(test.outcome == "pass" for test in report.tests)
    open_ = sum(test.outcome == "undecided" for test in report.tests)
    held = passed + open_ + len(failed)
    begin = f"{report.judge} as judge of {report.preset}, {report.count} cases a test"
    if failed:
        names = ", ".join(failed[:5]) + (" and others" if len(failed) > 5 else "")
        return (
            f"{begin}: not to be trusted with {names}; {passed} of {held} tests passed, "
            f"{len(failed)} failed, {open_} undecided."
        )
    if open_:
        return (
            f"{begin}: no test failed, {passed} of {held} passed, {open_} undecided; more cases "
            "would decide."
        )
    return f"{begin}: all {held} tests passed."


def _test(test: TestReport) -> Json:
    return {
        "name": test.name,
        "construction": test.construction,
        "cases": test.cases,
        "outcome": test.outcome,
        "criteria": [_finding(finding) for finding in test.findings],
        "failed": [_example(one) for one in test.failed],
        "unscored": [_example(one) for one in test.unscored],
    }


def _finding(found: Finding) -> Json:
    return {
        "criterion": found.criterion,
        "bar": found.bar.text,
        "outcome": found.outcome,
        "rate": _share(found.share),
        "difference": None if found.difference is None else _difference(found.difference),
        "judge_right_alone": _share(found.right),
        "judge_wrong_alone": _share(found.wrong),
        "compared_right_alone": _share(found.right_base),
        "compared_wrong_alone": _share(found.wrong_base),
        "unscored": list(found.unscored),
    }


def _share(share: Share) -> Json:
    return {"x": share.x, "n": share.n, "rate": share.rate, "bounds": [share.low, share.high]}


def _difference(found: Difference) -> Json:
    return {
        "points": found.value,
        "bounds": [found.low, found.high],
        "n": found.n,
        "compared_with": found.base.rate,
    }


def _example(one: Example) -> Json:
    # A judge may repeat half a character of the test garbage: no file takes that as it is.
    replies = {
        name: text[:MOST_TEXT].encode(errors="backslashreplace").decode()
        for name, text in one.replies.items()
    }
    return {
        "case": one.case,
        "criterion": one.criterion,
        "question": one.question[:MOST_TEXT],
        "replies": replies,
    }


def judge_text(told: Told) -> str:
    """Return the report for a terminal."""
    return "\n".join(_lines(told))


def _lines(told: Told) -> Iterator[str]:
    yield str(told["verdict"])
    yield f"Alone the judge answers {_rate(told['alone'])} of the questions rightly."
    yield ""
    yield from table_lines(*_rows(told))
    yield ""
    unscored = sum(len(c["unscored"]) for t in told["tests"] for c in t["criteria"])
    yield f"{told['calls']} calls of the judge, none of a member; {unscored} marks unscored"
    for note in (*told["notes"], *told["problems"]):
        yield f"note: {note}"


def _rows(told: Told) -> tuple[list[str], list[list[str]]]:
    head = ["test", "criterion", "rate", "95 % bounds", "difference", "bounds", "unread", "bar", ""]
    rows = []
    for test in told["tests"]:
        for place, found in enumerate(test["criteria"]):
            gap = found["difference"]
            rows.append(
                [
                    test["name"] if place == 0 else "",
                    found["criterion"],
                    _rate(found["rate"]),
                    _bounds(found["rate"]["bounds"]),
                    "" if gap is None else points(gap["points"]),
                    "" if gap is None else _bounds(gap["bounds"]),
                    str(len(found["unscored"])),
                    found["bar"],
                    found["outcome"],
                ]
            )
    return head, rows


def _rate(share: Told) -> str:
    return "–" if share["rate"] is None else f"{share['x']}/{share['n']}"


def _bounds(bounds: Any) -> str:  # noqa: ANN401  two numbers of JSON
    low, high = bounds
    return f"{points(low, signed=False)}…{points(high, signed=False)}"


def judge_page(told: Told) -> str:
    """Return the report as one HTML page; whatever a model wrote is escaped."""
    return document(f"the judge of {told['preset']}", "".join(_sections(told)))


def _sections(told: Told) -> Iterator[str]:
    yield f'<p class="verdict">{escape(told["verdict"])}</p>'
    alone = f"Alone the judge answers {_rate(told['alone'])} of the questions rightly."
    yield f'<p>{escape(alone)}</p><p class="soft">Shares with one-sided 95 % bounds.</p>'
    yield f"<h2>Tests</h2>{html_table(*_rows(told))}"
    for test in told["tests"]:
        shown = "".join(_shown(one) for one in (*test["failed"], *test["unscored"][:3]))
        strata = html_table(
            ["criterion", "judge right alone", "judge wrong alone"],
            [
                [c["criterion"], _rate(c["judge_right_alone"]), _rate(c["judge_wrong_alone"])]
                for c in test["criteria"]
            ],
        )
        yield (
            f"<details><summary>{escape(test['name'])}: {escape(test['outcome'])}</summary>"
            f"<p>{escape(test['construction'])}</p>{strata}{shown}</details>"
        )
    for note in (*told["notes"], *told["problems"]):
        yield f"<p>{escape(note)}</p>"
    identity = ", ".join(f"{key}: {value}" for key, value in told["identity"].items())
    yield f'<p class="soft">{escape(identity)}</p>'


def _shown(one: Told) -> str:
    replies = "".join(
        f"<p>{escape(name)}</p><pre>{escape(text)}</pre>" for name, text in one["replies"].items()
    )
    return (
        f"<p>{escape(one['criterion'])}, {escape(one['case'])}</p>"
        f"<pre>{escape(one['question'])}</pre>{replies}"
    )
