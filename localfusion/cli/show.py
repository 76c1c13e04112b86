"""What people see in a terminal: phases, members as they finish, the analysis, the answer."""

import sys
from collections.abc import Iterable

from rich.console import Console
from rich.text import Text

from localfusion.engines.base import PhaseChange
from localfusion.events import (
    AnalysisCompleted,
    AnalysisStarted,
    AnswerDelta,
    AnswerStarted,
    CandidateChecked,
    Event,
    PanelAdded,
    PanelCompleted,
    PolicyChosen,
    PrefillCompleted,
    RunStarted,
    VerdictCompleted,
)
from localfusion.judging import Analysis
from localfusion.types import NOT_NEEDED, Answer, Candidate

TABLE_WIDTH = 120
_CONTROLS = {code: None for code in (*range(32), *range(0x7F, 0xA0)) if chr(code) not in "\n\t"}


def printable(text: str) -> str:
    """Strip control characters, so that model text cannot steer the terminal."""
    return text.translate(_CONTROLS)


def wide_console() -> Console:
    """Return a console for tables: at least 120 columns, for in pipes names are cut otherwise."""
    console = Console(highlight=False, markup=False)
    console.width = max(console.width, TABLE_WIDTH)
    return console


class PhaseLines:
    """Prints one line per change of an engine's start, on stderr."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._last: dict[str, str] = {}

    def __call__(self, change: PhaseChange) -> None:
        detail = f" {change.detail}" if change.detail else ""
        line = f"{change.phase}{detail}"
        if self._last.get(change.engine) == line:
            return
        self._last[change.engine] = line
        style = {"ready": "green", "failed": "red"}.get(change.phase, "dim")
        text = f"{change.seconds:6.1f} s  {change.engine}: {line}"
        self._console.print(Text(printable(text), style=style))


class RunLines:
    """Prints a run's events as they come: the answer on stdout, all else on stderr.

    Args:
        show_panel: Print each member's text and the analysis, not only that they are done.
        quiet_answer: Leave stdout to the caller.
        timing: Print at the end what was waited for and what it cost.
    """

    def __init__(self, show_panel: bool, quiet_answer: bool, timing: bool = False) -> None:
        self._notes = Console(stderr=True, highlight=False)
        self._show_panel = show_panel
        self._quiet_answer = quiet_answer
        self._timing = timing
        self._done = 0
        self._members = 0

    def __call__(self, event: Event) -> None:
        self._panel_line(event)
        self._judge_line(event)
        if isinstance(event, AnswerDelta) and not self._quiet_answer:
            sys.stdout.write(printable(event.text))
            sys.stdout.flush()

    def _panel_line(self, event: Event) -> None:
        match event:
            case RunStarted(members=members, judge=judge) if judge is not None:
                self._members = len(members)
                self.note(f"panel: {', '.join(members)}; judge: {judge}")
            case PolicyChosen():
                self.note(f"{event.task}: {event.policy} ({event.reason})")
            case PanelAdded(index=index):
                self._members = max(self._members, index + 1)  # a further panel goes on counting
            case PanelCompleted(candidate=candidate):
                self._done += 1
                self._member(candidate)
            case CandidateChecked(index=index, check=check):
                detail = f": {check.detail}" if check.detail else ""
                self.note(f"{check.kind} of candidate {index}: {check.outcome}{detail}")
            case _:
                pass

    def _judge_line(self, event: Event) -> None:
        match event:
            case PrefillCompleted() if self._timing:
                self.note(read_ahead(event))
            case VerdictCompleted():
                self.note(verdict_line(event))
            case AnalysisStarted(judge=judge):
                self.note(f"{judge} compares the drafts")
            case AnalysisCompleted():
                self._analysis(event)
            case AnswerStarted():
                self._answer_starts(event)
            case _:
                pass

    def _member(self, candidate: Candidate) -> None:
        line = f"{self._done}/{self._members} {describe(candidate)}"
        self.note(line, "dim" if candidate.is_usable else "yellow")
        if self._show_panel and candidate.text:
            self._block(f"answer of {candidate.model}", candidate.text)

    def _analysis(self, event: AnalysisCompleted) -> None:
        if event.analysis is None:
            self.note(f"no analysis: {event.error}", "yellow")
        elif self._show_panel:
            self._block("analysis", "\n".join(analysis_lines(event.analysis)))

    def _answer_starts(self, event: AnswerStarted) -> None:
        if event.reason is not None:
            detail = f" ({event.error})" if event.error else ""
            self.note(f"{event.status}: {event.reason}{detail}", "yellow")
        self.note(f"answer by {event.model}")

    def note(self, text: str, style: str = "dim") -> None:
        """Print a line of progress."""
        self._notes.print(Text(printable(text), style=style))

    def _block(self, title: str, text: str) -> None:
        self._notes.rule(Text(title), align="left")
        self._notes.print(Text(printable(text.strip())))
        self._notes.rule()

    def finish(self, answer: Answer) -> None:
        """End the answer's line and print what it took."""
        if not self._quiet_answer:
            sys.stdout.write("\n")
            sys.stdout.flush()
        self.note(summary(answer))
        if self._timing:
            for line in timing_lines(answer):
                self.note(line)


def read_ahead(event: PrefillCompleted) -> str:
    if event.skipped is not None:
        return f"the judge does not read ahead: {event.skipped}"
    new = event.tokens - event.cached_tokens
    return f"the judge reads ahead: {event.drafts} drafts, {new} new of {event.tokens} tokens"


def verdict_line(event: VerdictCompleted) -> str:
    """One line: the likeliest first, and how much of it a reversed order left."""
    verdict = event.verdict
    if verdict is None:
        return f"no verdict: {event.error}"
    shares = {f"candidate {index}": p for index, p in verdict.probabilities.items()}
    shares["none alone"] = verdict.synthesize
    ordered = sorted(shares.items(), key=lambda item: -item[1])
    agreed = "" if verdict.agreement is None else f"; both orders agree by {verdict.agreement:.2f}"
    return f"verdict: {', '.join(f'{name} {p:.2f}' for name, p in ordered)}{agreed}"


def timing_lines(answer: Answer) -> Iterable[str]:
    """Render where the time went, what was read from caches, and what it cost."""
    path = (
        f"{step.stage}{'' if step.index is None else f' (candidate {step.index})'} "
        f"{step.seconds:.2f} s"
        for step in answer.critical_path
    )
    yield f"waited for: {', '.join(path)}"
    for name, stage in answer.stages.items():
        usage = stage.usage
        if usage.prompt_tokens:
            share = usage.cached_tokens / usage.prompt_tokens
            first = stage.first_token_seconds
            late = "" if first is None else f", first token after {first:.2f} s"
            yield (
                f"{name}: {usage.calls} calls, {usage.prompt_tokens} tokens in, {share:.0%} "
                f"cached, {usage.completion_tokens} out{late}"
            )
    cost = answer.cost
    worked = [f"{name} {seconds:.1f} s" for name, seconds in cost.engine_seconds.items()]
    yield f"engines worked: {', '.join(worked)}"
    devices = [f"{seconds:.1f} {kind}-seconds" for kind, seconds in cost.device_seconds.items()]
    if cost.joules is not None:
        devices.append(f"{cost.joules:.0f} joules")
    if cost.money is not None:
        devices.append(f"{cost.money:.6f} {cost.currency}")
    yield f"cost at most: {', '.join(devices)}"


def describe(candidate: Candidate) -> str:
    if candidate.failure_reason == NOT_NEEDED:
        return f"{candidate.model} {candidate.error}"
    if not candidate.is_usable:
        return f"{candidate.model} lost after {candidate.seconds:.1f} s: {candidate.error}"
    cut = ", cut at its token limit" if candidate.finish_reason == "length" else ""
    tokens = candidate.usage.completion_tokens
    return f"{candidate.model} in {candidate.seconds:.1f} s, {tokens} tokens{cut}"


def analysis_lines(analysis: Analysis) -> Iterable[str]:
    """Render the five parts as lines; an empty part is left out."""
    for text in analysis.consensus:
        yield f"agreed: {text}"
    for contradiction in analysis.contradictions:
        stances = "; ".join(f"{s.model}: {s.stance}" for s in contradiction.stances)
        yield f"contradiction: {contradiction.topic} ({stances})"
    for part in analysis.partial_coverage:
        yield f"only {', '.join(part.models)}: {part.point}"
    for insight in analysis.unique_insights:
        yield f"insight of {insight.model}: {insight.insight}"
    for text in analysis.blind_spots:
        yield f"blind spot: {text}"


def summary(answer: Answer) -> str:
    """One line: status, tokens, seconds of each stage."""
    stages = ", ".join(f"{name} {timing.seconds:.1f} s" for name, timing in answer.stages.items())
    usage = answer.usage
    status = answer.status if answer.reason is None else f"{answer.status} ({answer.reason})"
    return (
        f"{status}; {usage.prompt_tokens} tokens in ({usage.cached_tokens} cached), "
        f"{usage.completion_tokens} out; {stages}; {answer.seconds:.1f} s in all"
    )
