"""Every refusal and failure as OpenAI's error object, with the headers that steer its clients."""

import logging
import math
import traceback
from collections.abc import Mapping

from fastapi.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from localfusion.errors import BodyTooLargeError, FusionError, OverloadedError, RequestError

logger = logging.getLogger(__name__)


class UnauthorizedError(RequestError):
    """One body for all causes: which it was would tell what a key looks like."""

    status = 401
    type = "authentication_error"
    code = "invalid_api_key"


class ScopeError(RequestError):
    status = 403
    type = "permission_error"
    code = "insufficient_scope"


class HostNotAllowedError(RequestError):
    status = 403
    type = "permission_error"
    code = "host_not_allowed"


class OriginNotAllowedError(RequestError):
    status = 403
    type = "permission_error"
    code = "origin_not_allowed"


class NotFoundError(RequestError):
    status = 404
    code = "not_found"


class MethodNotAllowedError(RequestError):
    status = 405
    code = "method_not_allowed"


class IdempotencyError(RequestError):
    """The key of a request that was another one."""

    status = 409
    code = "idempotency_key_reused"


class RateLimitedError(OverloadedError):
    """One key has as many requests as it may have."""

    status = 429
    type = "rate_limit_error"
    code = "rate_limit_exceeded"


class UrlTooLongError(RequestError):
    status = 414
    code = "url_too_long"


class HeadersTooLargeError(RequestError):
    status = 431
    code = "headers_too_large"


class RequestTimeoutError(RequestError):
    status = 408
    code = "request_timeout"


class UnsupportedMediaTypeError(RequestError):
    status = 415
    code = "unsupported_media_type"


class InternalError(FusionError):
    """A fault of ours; what it was stands in the log under the request's id."""


class ClientGoneError(Exception):
    """Nobody is left to answer: the connection closed, or its reader stopped reading."""


def error_object(
    error: FusionError,
    *,
    trace_id: str | None = None,
    stage: str | None = None,
    model: str | None = None,
) -> dict[str, object]:
    """Build the object that stands under ``error`` in a body or in a stream's last chunk."""
    message = str(error)
    is_refusal = isinstance(error, RequestError | OverloadedError)
    return {
        "message": message,
        "type": error.type,
        "param": error.param,
        "code": error.code,
        "metadata": {
            "error_type": type(error).__name__,
            "failure_reason": None if isinstance(error, RequestError) else error.code,
            "model": model,
            "stage": stage,
            # Refusals end with their remedy, behind the last semicolon.
            "remedy": (message.rpartition("; ")[2] if is_refusal and "; " in message else None),
            "trace_id": trace_id,
        },
    }


def error_headers(error: FusionError) -> dict[str, str]:
    """Build the headers that tell official clients whether and when to ask again.

    They repeat any 409 and 5xx twice unless told not to, and each repeat is a whole panel.
    """
    headers = {}
    if not error.retry and (error.status >= 500 or error.status == 409):
        headers["x-should-retry"] = "false"
    if isinstance(error, UnauthorizedError):
        headers["www-authenticate"] = "Bearer"
    if error.retry_after is not None:
        headers["retry-after"] = str(math.ceil(error.retry_after))
        headers["retry-after-ms"] = str(math.ceil(error.retry_after * 1000))
    if isinstance(error, BodyTooLargeError | RequestTimeoutError):
        headers["connection"] = "close"  # the rest of the body is never read
    return headers


class Refusal(JSONResponse):
    """An error as a whole answer; leaves its code in the request's state, for log and metrics."""

    def __init__(
        self, body: Mapping[str, object], error: FusionError, headers: Mapping[str, str]
    ) -> None:
        super().__init__(body, status_code=error.status, headers=headers)
        self._code = error.code

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["state"]["reason"] = self._code
        await super().__call__(scope, receive, send)


def error_response(
    error: FusionError,
    *,
    trace_id: str | None = None,
    stage: str | None = None,
    model: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """Build the answer to a request that failed before its first byte."""
    body = {"error": error_object(error, trace_id=trace_id, stage=stage, model=model)}
    sent = {**(headers or {}), **error_headers(error)}
    return Refusal(body, error, sent)


def draining() -> OverloadedError:
    """Return what is told to whoever is refused or cut because the server stops."""
    return OverloadedError("the server is stopping; ask again when it is back", code="draining")


def report_bug(error: BaseException, request_id: str) -> InternalError:
    """Log a fault of ours without content of the request; return what the client is told."""
    # An exception's text may hold parts of a prompt: its class and the lines it passed say enough.
    logger.error("request %s: internal error\n%s", request_id, "".join(_frames(error)))
    return internal(request_id)


def internal(request_id: str) -> InternalError:
    """Return all that a client is told of a fault that is not its own."""
    return InternalError(f"internal error, request id {request_id}")


def _frames(error: BaseException) -> list[str]:
    lines = [f"{type(error).__name__}\n", *traceback.format_tb(error.__traceback__)]
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            lines += _frames(inner)
    return lines
