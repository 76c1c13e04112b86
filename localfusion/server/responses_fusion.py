"""The fusion item of a response: what the panel said and the judge found; and its events. Pure.

Source: the item and the event table of the Fusion API (OpenRouter, August 2026). ``index`` in
events, ``fusion_status`` and ``trace_id`` in the item are ours.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from localfusion.errors import FusionError
from localfusion.events import (
    AnalysisCompleted,
    AnalysisStarted,
    AnswerStarted,
    Event,
    PanelAdded,
    PanelCompleted,
    PanelDelta,
)
from localfusion.judging import Analysis
from localfusion.server.forms import FUSION_TOOL
from localfusion.server.responses_output import Emit, Item, Output
from localfusion.types import Answer, Candidate
from localfusion.wire import PREFIX


@dataclass(slots=True)
class FusionItem:
    """Folds the events of a panel into an item; without a panel there is none.

    Attributes:
        output: Where the item goes.
        emit: Takes the events that tell of it.
        is_told: Events tell of the panel as it goes; else the item comes whole.
    """

    output: Output
    emit: Emit
    is_told: bool
    _place: int | None = None
    _is_open: bool = False
    _names: dict[int, str] = field(default_factory=dict)
    _candidates: dict[int, Candidate] = field(default_factory=dict)
    _analysis: Analysis | None = None
    _failure: str | None = None

    def see(self, event: Event) -> None:
        match event:
            case PanelAdded(index=index, model=model):
                self._open()
                self._names[index] = self._name(model)
                self._tell("panel.added", self._member(index))
            case PanelDelta(index=index, text=text, reasoning=reasoning):
                if reasoning:
                    self._tell("panel.reasoning.delta", {**self._member(index), "delta": reasoning})
                if text:
                    self._tell("panel.delta", {**self._member(index), "delta": text})
            case PanelCompleted(candidate=candidate):
                self._candidates[candidate.index] = candidate
                self._end_member(candidate)
            case AnalysisStarted(judge=judge):
                self._tell("analysis.in_progress", {"analyst_model": judge, "judge_model": judge})
            case AnalysisCompleted(analysis=analysis, error=error):
                self._analysis, self._failure = analysis, error
                if analysis is not None:
                    self._tell("analysis.completed", {"analysis": analysis.model_dump(mode="json")})
            case AnswerStarted():
                self._settle(event)

    def note_end(self, answer: Answer) -> None:
        """Say how whole the answer is in the end, for a deadline may cut it; and its trace."""
        if self._place is not None:
            told = {"fusion_status": answer.status, "trace_id": answer.trace_id}
            self.output.items[self._place] |= told

    def abandon(self, error: FusionError) -> None:
        """Close the item after a failure."""
        if self._place is not None and self._is_open:
            self.output.items[self._place] |= self._content() | {
                "error": str(error),
                "failure_reason": error.code,
            }
            self._close("incomplete")

    def _open(self) -> None:
        if self._place is not None:
            return
        self._is_open = True
        # Clients that do not know the item take it for a message and iterate over its content.
        fields = {"type": FUSION_TOOL, "trace_id": self.output.run_id, "content": []}
        self._place, item = self.output.add("fus", fields)
        if self.is_told:
            self.emit("response.output_item.added", {"output_index": self._place, "item": item})
            self._tell("in_progress", {})

    def _end_member(self, candidate: Candidate) -> None:
        member = self._member(candidate.index)
        if candidate.is_lost:
            told = {"error": _words(candidate), "failure_reason": candidate.failure_reason}
            self._tell("panel.failed", {**member, **told})
        else:
            self._tell("panel.completed", {**member, "content": candidate.text})

    def _settle(self, settled: AnswerStarted) -> None:
        if self._place is None:
            return
        failure = settled.error or self._failure
        self.output.items[self._place] |= self._content() | {
            "error": failure,
            "failure_reason": settled.reason if failure else None,
            "fusion_status": settled.status,
        }
        self._tell("completed", {})
        self._close("completed")

    def _close(self, ending: str) -> None:
        assert self._place is not None
        self._is_open = False
        if not self.is_told:
            fresh = {**self.output.items[self._place], "status": "in_progress"}
            self.emit("response.output_item.added", {"output_index": self._place, "item": fresh})
        self.output.finish(self._place, "completed" if ending == "completed" else "incomplete")

    def _content(self) -> Item:
        seen = [self._candidates[index] for index in sorted(self._candidates)]
        return {
            "analysis": None if self._analysis is None else self._analysis.model_dump(mode="json"),
            "responses": [{**self._member(c.index), "content": c.text} for c in seen if c.is_draft],
            "sources": [],
            "failed_models": [
                {
                    **self._member(c.index),
                    "error": _words(c),
                    "failure_reason": c.failure_reason,
                }
                for c in seen
                if c.is_lost
            ],
        }

    def _name(self, model: str) -> str:
        """Name a candidate by its model, as the analysis does: ``name``, ``name#2``."""
        count = sum(name.partition("#")[0] == model for name in self._names.values()) + 1
        return model if count == 1 else f"{model}#{count}"

    def _member(self, index: int) -> Item:
        return {"model": self._names[index], "index": index}

    def _tell(self, name: str, fields: Mapping[str, object]) -> None:
        if self.is_told and self._is_open and self._place is not None:
            item = self.output.items[self._place]
            where = {"item_id": item["id"], "output_index": self._place}
            self.emit(PREFIX + name, {**where, **fields})


def _words(candidate: Candidate) -> str:
    return candidate.error or str(candidate.failure_reason)
