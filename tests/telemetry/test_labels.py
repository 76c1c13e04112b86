"""The closed lists hold what the code can say, and no more."""

import ast
from collections.abc import Iterator
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import generate_latest

import localfusion
from localfusion import errors
from localfusion.engines import base
from localfusion.events import (
    AnswerStarted,
    PanelCompleted,
    PrefillCompleted,
    RunFailed,
    RunStarted,
    SynthesisStarted,
    VerdictCompleted,
)
from localfusion.fusion import calls
from localfusion.pool import kept
from localfusion.server import section
from localfusion.server.app import create_app
from localfusion.telemetry.http import HttpMetrics
from localfusion.telemetry.labels import REASONS, UNKNOWN, Labels, reason
from localfusion.telemetry.metrics import Metrics
from localfusion.telemetry.runs import RunMetrics
from localfusion.types import Candidate, SamplingParams
from tests.server.system import gateway
from tests.telemetry.pages import parse

ROOT = Path(localfusion.__file__).parent
SERVING = ("engines", "fusion", "pool", "server")
CONSTANTS = {
    errors.STARTING,
    errors.ASLEEP,
    base.MISCONFIGURED,
    calls.DEADLINE,
    kept.UNLOADED,
    *section._OWN_CODES,
}
ELSEWHERE = {
    "interrupted",  # a status of its own
    "cancelled",  # of a command line's pull
    "port_in_use",  # before there is a server
    "audit_unavailable",  # likewise
    "evaluation_error",  # of a command line's evaluations
    "dataset_error",
    "bundle_error",  # of a command line's bundles
    "sandbox_unavailable",  # becomes a check's outcome
    "invalid_prompt",  # of the Responses API's own words in a stream
    "server_error",
}


def codes_in(path: Path) -> Iterator[str]:
    """Yield the codes that a module's errors and failures have, as far as they stand there."""
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.keyword(arg="code" | "failure_reason" | "skipped", value=value):
                yield from words(value)
            case ast.Assign(targets=[ast.Name(id="code")], value=value):
                yield from words(value)
            case ast.AnnAssign(target=ast.Name(id="code"), value=ast.Constant(value=str(text))):
                yield text
            case ast.Call(func=ast.Name(id="wrong" | "missing"), args=[_, _, value]):
                yield from words(value)


def words(value: ast.expr) -> Iterator[str]:
    match value:
        case ast.Constant(value=str(text)):
            yield text
        case ast.IfExp(body=body, orelse=orelse):
            yield from words(body)
            yield from words(orelse)
        case ast.BoolOp(values=values):
            for inner in values:
                yield from words(inner)


def test_every_code_of_a_failure_is_on_the_list() -> None:
    paths = [ROOT / "errors.py", *(p for part in SERVING for p in (ROOT / part).rglob("*.py"))]
    found = {code for path in paths for code in codes_in(path)} | CONSTANTS

    assert len(found) > 50
    assert found - REASONS - ELSEWHERE == set()
    assert found >= REASONS - {"judge_not_valid_json", "member_timeout", "not_needed", "window"}


def kinds_of(kind: type[errors.FusionError]) -> Iterator[type[errors.FusionError]]:
    yield kind
    for further in kind.__subclasses__():
        yield from kinds_of(further)


def test_codes_of_all_errors_are_on_the_list() -> None:
    create_app(gateway())  # by then all modules are there that refuse something
    kinds = [k for k in kinds_of(errors.FusionError) if k.__module__.startswith("localfusion.")]

    assert len(kinds) > 20
    assert {kind.code for kind in kinds} - ELSEWHERE <= REASONS


def test_what_is_on_no_list_is_unknown() -> None:
    labels = Labels(["trio"], ["a"])

    assert (labels.preset("trio"), labels.preset("a"), labels.model("a")) == ("trio", "a", "a")
    assert (labels.preset("b"), labels.model("trio"), reason("x"), reason(None)) == (UNKNOWN,) * 4


TEXT = st.text(max_size=20) | st.sampled_from(["a", "trio", "queue_full", 'x"} 1\n', "\\"])


@given(preset=TEXT, model=TEXT, judge=st.none() | TEXT, code=TEXT, words=TEXT)
def test_no_text_of_an_event_can_become_a_label(
    preset: str, model: str, judge: str | None, code: str, words: str
) -> None:
    metrics = Metrics()
    observe = RunMetrics(metrics, Labels(["trio"], ["a"]))
    sampling = SamplingParams()
    lost = Candidate(0, model, sampling, words, failure_reason=code, error=words)
    for event in (
        RunStarted(preset=preset, policy=words, members=(model,), judge=judge),
        PanelCompleted(candidate=lost),
        PrefillCompleted(drafts=0, skipped=code),
        VerdictCompleted(judge=model, verdict=None, error=words, code=code),
        SynthesisStarted(judge=model, code=code),
        AnswerStarted(model=model, status="panel_only", reason=code, lost=(lost,), error=words),
        RunFailed(error=errors.JudgeError(words, code=code)),
    ):
        observe(event)
    HttpMetrics(metrics).ended(None, 404, code)

    page = parse(generate_latest(metrics.registry).decode())

    closed = {"a", "trio", UNKNOWN, "failed", "interrupted", "4xx", *REASONS}
    assert {text for name, text in page.labels if name != "le"} <= closed
