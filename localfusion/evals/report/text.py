"""The report for a terminal: verdict first."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from localfusion.evals.report.cost import NOT_MEASURED
from localfusion.evals.report.verdict import points

Told = Mapping[str, Any]


def terminal_text(report: Told) -> str:
    """Return the report's main tables as plain text, beginning with the verdict."""
    return "\n".join(_lines(report))


def _lines(report: Told) -> Iterator[str]:
    yield report["verdict"]["sentence"]
    if report["power"] is not None:
        yield report["power"]["sentence"]
    if report["note"]:
        yield f"Note: {report['note']}."
    yield ""
    yield from table_lines(*arm_rows(report))
    yield ""
    yield from table_lines(*comparison_rows(report))
    yield ""
    yield from _panel_lines(report)
    if report["members"] is not None:
        yield ""
        yield from table_lines(*member_rows(report))
    failures = [f"{one['arm']}: {one['reason']} x {one['count']}" for one in report["failures"]]
    if failures:
        yield "less than full: " + ", ".join(failures)
    if report["unscored"]:
        listed = f", of which the report lists {len(report['unscored'])}"
        more = report["unscored_count"] > len(report["unscored"])
        yield f"unscored: {report['unscored_count']}{listed if more else ', listed in the report'}"
    for one in report["lengths"]:
        yield (
            f"{one['arm']}: answers {one['length']:.2f} times as long as those they are compared "
            f"with; preferred at equal length: {percent(one['at_equal'])} %"
        )
    calls = report["calls"]
    yield f"calls: {calls['panel']} of the panel, {calls['judge']} of the judge"
    for note in (*report["notes"], *report["problems"]):
        yield f"note: {note}"


def arm_rows(report: Told) -> tuple[list[str], list[list[str]]]:
    """Return the head and the rows of the table of arms."""
    head = ["arm", "score", "95 % CI", "n", "unread", "cut", "tokens", "engine-s", "p50 s", "p95 s"]
    rows = []
    for arm in report["arms"]:
        live, spent = arm["live"] or {}, arm["tokens"]
        is_made = arm["kind"] == "computed"
        rows.append(
            [
                arm["name"],
                percent(arm["score"]),
                span(arm["interval"]),
                str(arm["n"]),
                "" if is_made else str(arm["not_extracted"]),
                "" if is_made else str(arm["cut"]),
                f"{written(spent):.0f}" if spent else "",
                figure(live.get("engine_seconds")),
                figure(live.get("p50")),
                figure(live.get("p95")),
            ]
        )
    return head, rows


def comparison_rows(report: Told) -> tuple[list[str], list[list[str]]]:
    """Return the head and the rows of the table of comparisons."""
    head = ["comparison", "points", "95 % CI", "fixed", "broken", "p", "", "question"]
    rows = [
        [
            f"{one['first']} − {one['second']}",
            "–" if one["difference"] is None else points(one["difference"]),
            span(one["interval"]),
            str(one["fixed"]),
            str(one["broken"]),
            f"{one['p']:.3f}",
            one["verdict"],
            one["what"],
        ]
        for one in report["comparisons"]
    ]
    return head, rows


def member_rows(report: Told) -> tuple[list[str], list[list[str]]]:
    """Return the head and the rows of the table of what members add."""
    head = ["member", "alone", "Shapley", "without it", "engine-s", "Shapley per engine-s"]
    rows = [
        [
            one["member"],
            percent(one["alone"]),
            points(one["shapley"]),
            points(-one["leave_one_out"]),
            figure(one["engine_seconds"]),
            "–" if one["per_engine_second"] is None else points(one["per_engine_second"]),
        ]
        for one in report["members"]["worth"]
    ]
    return head, rows


def _panel_lines(report: Told) -> Iterator[str]:
    panel = report["panel"]
    yield f"best member: {' / '.join(panel['best'])} (chosen on the other half of the samples)"
    for name, what in (
        ("co_failure", "no member is right"),
        ("headroom", "the best member is wrong and another one right"),
        ("same_wrong", "all give the same wrong answer"),
    ):
        count = panel[name]
        if count["n"]:
            yield f"{what}: {count['x']} of {count['n']}, {span(count['interval'])} %"
    flips = report["flips"]
    if flips is not None:
        yield (
            f"{report['served']} against the best member: {flips['fixed']} fixed, "
            f"{flips['broken']} broken, {flips['corrupted']} wrong where all members were right"
        )
    recovery = report["recovery"]
    if recovery is not None and "share" in recovery:
        yield (
            f"of what an oracle would gain it has "
            f"{points(recovery['share'], signed=False)} %, 95 % CI {span(recovery['interval'])}"
        )


def written(tokens: Told) -> float:
    """Return the tokens that were written for a sample, by the panel and by the judge."""
    return float(tokens.get("panel_completion", 0.0) + tokens.get("judge_completion", 0.0))


def percent(share: float | None) -> str:
    """Write a share as a percentage without its sign."""
    return "–" if share is None else f"{share * 100:.1f}"


def span(interval: Sequence[float | None]) -> str:
    """Write an interval of shares in points."""
    low, high = interval
    first = "−∞" if low is None else points(low, signed=False)
    last = "∞" if high is None else points(high, signed=False)
    return f"{first}…{last}"


def figure(value: object) -> str:
    """Write a number with three digits; what is not measured as a dash."""
    if value is None or value == NOT_MEASURED:
        return "–"
    return f"{float(str(value)):.3g}"


def table_lines(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield a table's lines: the first column to the left, numbers to the right."""
    widths = [max(len(row[place]) for row in (head, *rows)) for place in range(len(head))]
    for row in (head, *rows):
        cells = [
            cell.ljust(width) if place in (0, len(head) - 1) else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  ".join(cells).rstrip()
