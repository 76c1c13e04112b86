"""What the server logs: lines of text or JSON, never content; secrets and controls masked."""

import json
import logging
import re
import sys
from collections.abc import Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Literal

from localfusion.engines.base import PhaseChange

MAX_LINE = 16 << 10

LogFormat = Literal["text", "json"]

access_log = logging.getLogger("localfusion.access")
notes_log = logging.getLogger("localfusion.notes")
"""What whoever starts the server is told: its address, notes, reloads, phases of starts."""

current_request: ContextVar[str | None] = ContextVar("current_request", default=None)
"""Id of the request on whose behalf something is done, for lines of other parts."""

_SECRET = re.compile(r"(?i:\b(bearer)\s+)\S+|\blf-[A-Za-z0-9_-]{8,}")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def set_up_logs(*, access: bool, form: LogFormat = "text") -> None:
    """Send what the package logs to stderr, masked.

    Args:
        access: With a line for each request.
        form: ``json``: each line is an object with its time and level.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if form == "json" else Masked("%(message)s"))
    for name in ("localfusion", "opentelemetry"):  # whose exporter says what it cannot deliver
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.propagate = False
    access_log.setLevel(logging.INFO if access else logging.WARNING)
    notes_log.setLevel(logging.INFO)


class Masked(logging.Formatter):
    """Second line of defense: no key, no control character and no endless line in any log."""

    def format(self, record: logging.LogRecord) -> str:
        return mask(super().format(record))


class JsonLines(Masked):
    """The same as an object a line: time, level, logger, and the record's fields or its message."""

    def format(self, record: logging.LogRecord) -> str:
        when = datetime.fromtimestamp(record.created, UTC)
        line: dict[str, object] = {
            "time": when.isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
        }
        fields = getattr(record, "fields", None)
        if fields is None:
            line |= {"request": current_request.get(), "message": super().format(record)}
        else:
            line |= {k: mask(v) if isinstance(v, str) else v for k, v in fields.items()}
        return json.dumps(line)


def mask(text: str) -> str:
    """Return a text without keys, its control characters escaped, cut at ``MAX_LINE``."""
    text = _SECRET.sub(lambda match: f"{match[1] or 'lf-'} ***".replace("lf- ", "lf-"), text)
    text = _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", text)
    return text if len(text) <= MAX_LINE else f"{text[:MAX_LINE]}…"


def log_access(fields: Mapping[str, object]) -> None:
    """Log a request that has ended; its line is JSON in either format."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    access_log.info(json.dumps({"time": now, **fields}), extra={"fields": fields})


def log_phase(change: PhaseChange) -> None:
    """Log that an engine's start has come to another phase."""
    fields = {
        "engine": change.engine,
        "phase": change.phase,
        "seconds": round(change.seconds, 3),
        "detail": change.detail,
    }
    notes_log.info("%s: %s", change.engine, change.phase, extra={"fields": fields})
