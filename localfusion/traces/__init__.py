"""Traces: every run as it was, kept in one SQLite file, found again, taken elsewhere."""

from localfusion.traces.form import Json
from localfusion.traces.replies import Reply
from localfusion.traces.store import Page, Query, TraceStore
from localfusion.traces.trace import (
    Content,
    EngineVersion,
    Head,
    RenderedPrompt,
    Summary,
    Trace,
    TraceStatus,
    Versions,
)
from localfusion.traces.traces import Traces, open_traces

__all__ = [
    "Content",
    "EngineVersion",
    "Head",
    "Json",
    "Page",
    "Query",
    "RenderedPrompt",
    "Reply",
    "Summary",
    "Trace",
    "TraceStatus",
    "TraceStore",
    "Traces",
    "Versions",
    "open_traces",
]
