"""One request and its answer, as the log and the metrics tell of them: never what they say."""

import logging
import time
from dataclasses import dataclass, field

from starlette.datastructures import Headers
from starlette.types import Message, Scope

from localfusion.server.access import owner_of
from localfusion.server.logs import access_log, log_access
from localfusion.server.view import TRACE_HEADER
from localfusion.telemetry.http import HttpMetrics

_METHODS = frozenset({"GET", "HEAD", "POST", "DELETE", "OPTIONS", "PUT", "PATCH"})


@dataclass(slots=True)
class Exchange:
    """What is known of a request when it ends.

    Attributes:
        status: Of the answer; 0: the client left before there was one.
        run: Id of the run that is the answer.
    """

    scope: Scope
    request_id: str
    http: HttpMetrics
    status: int = 0
    run: str | None = None
    _is_stream: bool = False
    _began: float = field(default_factory=time.monotonic)

    def answer(self, start: Message) -> None:
        """Take the start of the answer."""
        headers = Headers(raw=list(start.get("headers", [])))
        self.status, self.run = start["status"], headers.get(TRACE_HEADER)
        if headers.get("content-type", "").startswith("text/event-stream"):
            self._is_stream = True
            self.http.stream_opened()

    def end(self) -> None:
        """Count and log the request."""
        if self._is_stream:
            self.http.stream_closed()
        # The route's template, never the address; the reason of an error, never its words.
        route = getattr(self.scope.get("route"), "path", None)
        reason = self.scope["state"].get("reason")
        self.http.ended(route, self.status, reason)
        if not access_log.isEnabledFor(logging.INFO):
            return
        method = self.scope["method"]
        log_access(
            {
                "request": self.request_id,
                "run": self.run,
                "key": owner_of(self.scope) or None,
                "method": method if method in _METHODS else "other",
                "route": route,
                "status": self.status or None,
                "reason": reason,
                "ms": round((time.monotonic() - self._began) * 1000),
            }
        )
