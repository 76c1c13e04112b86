"""The report as one HTML page: no remote part, no script; whatever a model wrote is escaped."""

import json
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import sha256
from html import escape
from importlib.resources import files
from typing import Any

from localfusion.evals.report.cost import cost_of
from localfusion.evals.report.svg import Bar, Curve, Dot, Stack, bars, curves, scatter, stacks
from localfusion.evals.report.text import (
    arm_rows,
    comparison_rows,
    member_rows,
    percent,
    span,
    written,
)

Told = Mapping[str, Any]
TraceLink = Callable[[str], str]
Cell = str | tuple[str, str]
"""A text, or a text and the class of its cell."""


def html_page(report: Told, trace_link: TraceLink | None = None) -> str:
    """Return the whole page.

    Args:
        report: As ``make_report`` returns it.
        trace_link: Returns the address of a trace; None: the command that shows it stands there.
    """
    title = f"{report['suite']} with preset {report['preset']}"
    return document(title, "".join(_sections(report, trace_link)))


def document(name: str, body: str) -> str:
    """Return a page that stands alone, around a body that is safe already."""
    style = files("localfusion.evals.report").joinpath("page.css").read_text()
    digest = b64encode(sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    title = escape(name)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{style}</style></head><body>"
        f"<h1>localfusion evaluation: {title}</h1>{body}</body></html>\n"
    )


def _sections(report: Told, trace_link: TraceLink | None) -> Iterator[str]:
    yield f'<p class="verdict">{escape(report["verdict"]["sentence"])}</p>'
    if report["power"] is not None:
        yield f"<p>{escape(report['power']['sentence'])}</p>"
    source = f"{report['n']} samples: {report['source']}."
    note = f" Note: {report['note']}." if report["note"] else ""
    yield f'<p class="soft">{escape(source + note)}</p>'
    yield _arms(report)
    yield _comparisons(report)
    yield _cost(report)
    yield _flips(report, trace_link)
    yield _panel(report)
    yield _retention(report)
    yield _tasks(report)
    yield _faults(report)
    yield _identity(report)


def _arms(report: Told) -> str:
    rows = [
        Bar(
            arm["name"],
            arm["score"] * 100,
            _points(arm["interval"][0]),
            _points(arm["interval"][1]),
            percent(arm["score"]),
        )
        for arm in report["arms"]
        if arm["score"] is not None
    ]
    told = (
        "Score: mean over samples, in percent. Unread: answers in which nothing could be found, "
        "counted wrong. Tokens: written for a sample by panel and judge. Engine-seconds and times: "
        "from the live samples alone, one at a time; a dash: not measured."
    )
    return (
        f"<h2>Arms</h2>{bars('scores of all arms', rows)}{html_table(*arm_rows(report))}"
        f'<p class="soft">{told}</p>'
    )


def _points(share: float | None) -> float | None:
    return None if share is None else share * 100


def _comparisons(report: Told) -> str:
    head, rows = comparison_rows(report)
    primary = [place for place, one in enumerate(report["comparisons"]) if one["is_primary"]]
    told = (
        "Paired over samples; fixed and broken count samples that differ, p is McNemar's exact "
        "one. The first row was planned; all others are exploratory."
    )
    return f'<h2>Comparisons</h2>{html_table(head, rows, primary)}<p class="soft">{told}</p>'


def _cost(report: Told) -> str:
    dots = [
        Dot(arm["name"], price, arm["score"], arm["name"] in report["frontier"])
        for arm in report["arms"]
        if (price := cost_of(arm)) is not None and arm["score"] is not None
    ]
    paths = [
        Stack(arm["name"], tuple(arm["live"]["path"].items()))
        for arm in report["arms"]
        if arm["live"] and arm["live"].get("path")
    ]
    if not dots:
        return "<h2>Cost</h2>" + _tokens(report)
    live = next(arm["live"] for arm in report["arms"] if arm["live"])
    money = live.get("money")
    spent = [
        [
            arm["name"],
            *(_told(arm["live"].get(key)) for key in ("engine_seconds", "joules", "money")),
            str(arm["live"].get("currency") or ""),
        ]
        for arm in report["arms"]
        if arm["live"]
    ]
    rates = "" if isinstance(money, float) else " Money: models.yaml has no rates."
    return (
        "<h2>Cost</h2>"
        + scatter("quality against cost", dots, "engine-seconds for a sample", "score, percent")
        + f'<p class="soft">Joined: no other arm is better at no more cost.{rates}</p>'
        + html_table(["arm", "engine-seconds", "joules", "money", ""], spent)
        + "<h2>What was waited for</h2>"
        + stacks("critical path by arm", paths, "s")
    )


def _tokens(report: Told) -> str:
    """Plot quality against tokens, where no time was measured."""
    dots = [
        Dot(arm["name"], written(arm["tokens"]), arm["score"])
        for arm in report["arms"]
        if arm["tokens"] and arm["score"] is not None
    ]
    told = "<p>Engine-seconds are not measured: no sample was asked live.</p>"
    return told + scatter(
        "quality against tokens", dots, "tokens written for a sample", "score, percent"
    )


def _told(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, int | float) else str(value or "–")


def _flips(report: Told, trace_link: TraceLink | None) -> str:
    flips = report["flips"]
    if flips is None:
        return ""
    rows = [
        Bar("fixed", flips["fixed"], label=str(flips["fixed"])),
        Bar("broken", -flips["broken"], label=str(flips["broken"])),
        Bar("all members right", -flips["corrupted"], label=str(flips["corrupted"])),
    ]
    moved = [
        [
            f"{one['members_right']} of {len(report['identity']['members'])}",
            one["name"],
            f"{one['right']} of {one['n']}",
            percent(one["share"]),
            span(one["interval"]),
        ]
        for one in report["transitions"]
    ]
    head = ["members right", "", "answer right", "percent", "95 % CI"]
    examples = "".join(_example(one, trace_link) for one in flips["examples"])
    served = escape(report["served"])
    return (
        f"<h2>What {served} fixes and breaks, against the best member</h2>"
        f"{bars('fixed and broken', rows, is_signed=True)}{html_table(head, moved)}{examples}"
    )


def _example(one: Told, trace_link: TraceLink | None) -> str:
    members = "".join(
        f"<p>{escape(m['member'])}: {_told(m['score'])}</p><pre>{escape(m['text'])}</pre>"
        for m in one["members"]
    )
    trace = one["trace"]
    link = ""
    if trace is not None and trace_link is not None:
        link = f'<p><a href="{escape(trace_link(trace))}">trace {escape(trace)}</a></p>'
    elif trace is not None:
        link = f"<p>localfusion traces show {escape(trace)}</p>"
    gold = "" if one["gold"] is None else f"<p>expected: {escape(one['gold'])}</p>"
    return (
        f"<details><summary>{escape(one['kind'])}: {escape(one['sample'])}</summary>"
        f"<pre>{escape(one['question'])}</pre>{gold}{members}"
        f"<p>answer: {_told(one['score'])}</p><pre>{escape(one['answer'])}</pre>{link}</details>"
    )


def _panel(report: Told) -> str:
    panel, members = report["panel"], report["members"]
    rows = [
        [what, f"{panel[key]['x']} of {panel[key]['n']}", span(panel[key]["interval"])]
        for key, what in (
            ("co_failure", "no member is right: out of reach of any choice"),
            ("headroom", "the best member is wrong, another one right: the most a choice can gain"),
            ("same_wrong", "all give the same wrong answer"),
        )
    ]
    pairs = [
        [
            f"{pair['first']} / {pair['second']}",
            percent(pair.get("disagreement")),
            percent(pair.get("double_fault")),
            _told(pair.get("q")),
            _told(pair.get("kappa")),
        ]
        for pair in panel["pairs"]
    ]
    text = "<h2>Members</h2>" + html_table(["", "samples", "95 % CI, percent"], rows)
    text += html_table(["pair", "disagree, %", "both wrong, %", "Q", "kappa"], pairs)
    if members is None:
        return text + (
            '<p class="soft">What each member adds: not measured; run with --arms subsets.</p>'
        )
    worth = [Bar(one["member"], one["shapley"] * 100) for one in members["worth"]]
    return (
        text
        + bars("Shapley values, points", worth, is_signed=True)
        + html_table(*member_rows(report))
    )


def _retention(report: Told) -> str:
    told = report["retention"]
    if told is None:
        return ""
    n = told["members"]
    lines = [Curve("answer", [(one["members"], one["share"]) for one in told["found"]])]
    lines.append(Curve("random member", [(k, k / n) for k in range(n + 1)]))
    lines.append(Curve("majority", [(k, float(k > n / 2)) for k in range(n + 1)]))
    lines.append(Curve("perfect union", [(k, float(k > 0)) for k in range(n + 1)]))
    rows = [
        [what, str(one["members"]), f"{one['x']} of {one['n']}", percent(one["share"])]
        for what, key in (("finding", "found"), ("fault", "faults"))
        for one in told[key]
    ]
    return (
        "<h2>What becomes of what k members have found</h2>"
        + curves("retention", lines, "members that have it")
        + html_table(["", "members", "in the answer", "percent"], rows)
    )


def _tasks(report: Told) -> str:
    arms = [arm["name"] for arm in report["arms"]]
    rows = [
        [one["task"], str(one["n"]), *(_heat(one["scores"].get(arm)) for arm in arms)]
        for one in report["tasks"]
    ]
    return "<h2>By task</h2>" + html_table(["task", "n", *arms], rows)


def _heat(share: float | None) -> Cell:
    """Return a cell whose shade goes with the score, in tenths."""
    return "–" if share is None else (percent(share), f"h{min(9, int(share * 10))}")


def _faults(report: Told) -> str:
    rows = [[one["arm"], one["reason"], str(one["count"])] for one in report["failures"]]
    text = "<h2>Less than full, failed, unscored</h2>"
    text += html_table(["arm", "reason", "answers"], rows) if rows else "<p>None.</p>"
    if report["unscored"]:
        unscored = [[one["arm"], one["sample"], one["why"]] for one in report["unscored"]]
        text += html_table(["unscored", "sample", "why"], unscored)
    calls = report["calls"]
    text += f"<p>Calls: {calls['panel']} of the panel, {calls['judge']} of the judge.</p>"
    return text + "".join(
        f"<p>{escape(note)}</p>" for note in (*report["notes"], *report["problems"])
    )


def _identity(report: Told) -> str:
    told = json.dumps(report["identity"], indent=2, ensure_ascii=False)
    return (
        "<h2>Identity</h2><details><summary>versions, weights, settings, seeds</summary>"
        f"<pre>{escape(told)}</pre></details>"
    )


def html_table(
    head: Sequence[str], rows: Sequence[Sequence[Cell]], marked: Sequence[int] = ()
) -> str:
    """Return a table; the rows at ``marked`` stand out."""
    if not rows:
        return ""
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join(
        ('<tr class="primary">' if place in marked else "<tr>") + "".join(map(_cell, row)) + "</tr>"
        for place, row in enumerate(rows)
    )
    return f'<div class="scroll"><table><tr>{top}</tr>{body}</table></div>'


def _cell(cell: Cell) -> str:
    if isinstance(cell, tuple):
        return f'<td class="{escape(cell[1])}">{escape(cell[0])}</td>'
    return f"<td>{escape(cell)}</td>"
