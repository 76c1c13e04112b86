"""What the server logs: a line for each request, never its content; secrets and controls masked."""

import json
import logging
import re
import sys
from datetime import UTC, datetime

from starlette.types import Scope

from localfusion.server.access import Caller

MAX_LINE = 16 << 10

access_log = logging.getLogger("localfusion.access")

_METHODS = frozenset({"GET", "HEAD", "POST", "DELETE", "OPTIONS", "PUT", "PATCH"})
_SECRET = re.compile(r"(?i:\b(bearer)\s+)\S+|\blf-[A-Za-z0-9_-]{8,}")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def set_up_logs(*, access: bool) -> None:
    """Send what the package logs to stderr, masked.

    Args:
        access: With a line for each request.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Masked("%(message)s"))
    logger = logging.getLogger("localfusion")
    logger.handlers = [handler]
    logger.propagate = False
    access_log.setLevel(logging.INFO if access else logging.WARNING)


class Masked(logging.Formatter):
    """Second line of defense: no key, no control character and no endless line in any log."""

    def format(self, record: logging.LogRecord) -> str:
        return mask(super().format(record))


def mask(text: str) -> str:
    """Return a text without keys, its control characters escaped, cut at ``MAX_LINE``."""
    text = _SECRET.sub(lambda match: f"{match[1] or 'lf-'} ***".replace("lf- ", "lf-"), text)
    text = _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", text)
    return text if len(text) <= MAX_LINE else f"{text[:MAX_LINE]}…"


def log_access(scope: Scope, request_id: str, status: int, seconds: float) -> None:
    """Log a request that has ended: its route's template, never its address or body.

    Args:
        scope: Of the request.
        request_id: Its id.
        status: Of the answer; 0: the client left before there was one.
        seconds: From its headers to the answer's last byte.
    """
    if not access_log.isEnabledFor(logging.INFO):
        return
    caller = scope.get("state", {}).get("caller")
    method = scope["method"]
    line = {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "request": request_id,
        "key": caller.name if isinstance(caller, Caller) else None,
        "method": method if method in _METHODS else "other",
        "route": getattr(scope.get("route"), "path", None),
        "status": status or None,
        "ms": round(seconds * 1000),
    }
    access_log.info(json.dumps(line))
