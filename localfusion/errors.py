"""The tree of errors; each knows its HTTP status, OpenAI type and code, and its exit code.

FusionError
├── ConfigError               models.yaml or a preset is wrong          exit 2, before any request
├── PlacementError            the models do not fit; says what would    exit 2
├── WeightsError              pull, convert or verify failed            exit 2
├── BundleError               a bundle cannot be made, or be trusted    exit 2
├── RequestError              the client's fault; names the field       400
│   └── ModelNotFoundError, BodyTooLargeError, ContextLengthError       404, 413, 400
├── OverloadedError           admission refused; retry_after seconds    503
├── EngineError               a model failed                            502
│   └── EngineStartError, EngineUnavailableError, EngineTimeoutError    503, 503, 504
├── QuorumError               too few candidates to answer from         503
├── JudgeError                the judge gave nothing usable             502
├── AuditError                the audit log cannot be read or written   exit 2
├── EvaluationError           an evaluation cannot be begun or read     exit 2
│   └── DatasetError          a file of samples is wrong; names the line exit 2
└── TraceError                traces cannot be read or written          503

HTTP and process failures become one of these inside ``engines/`` and nowhere else.
"""

from typing import ClassVar

STARTING = "starting"
"""Code of an EngineUnavailableError that time will mend."""
ASLEEP = "asleep"
"""Code of an EngineUnavailableError of an engine that comes back as soon as it is asked."""


class FusionError(Exception):
    """Anything localfusion refuses or fails at, with a message that names the thing and the remedy.

    Attributes:
        status: HTTP status of the answer when it reaches a client before the first byte.
        type: OpenAI's error type.
        code: Stable machine-readable reason; also the trace's ``failure_reason``.
        param: Path of the offending request field (``messages[3].content``), or None.
        exit_code: Exit code of the command line when the error ends it.
        retry: Whether asking again may help; False sends ``x-should-retry: false``.
        retry_after: Seconds after which asking again makes sense, or None.
    """

    status: ClassVar[int] = 500
    type: ClassVar[str] = "server_error"
    exit_code: ClassVar[int] = 1
    retry: ClassVar[bool] = False
    code: str = "internal_error"
    param: str | None = None
    retry_after: float | None = None

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code
        if param is not None:
            self.param = param
        if retry_after is not None:
            self.retry_after = retry_after


class ConfigError(FusionError):
    exit_code = 2
    code = "config_error"


class PlacementError(FusionError):
    exit_code = 2
    code = "placement_error"


class WeightsError(FusionError):
    exit_code = 2
    code = "weights_error"


class BundleError(FusionError):
    exit_code = 2
    code = "bundle_error"


class RequestError(FusionError):
    status = 400
    type = "invalid_request_error"
    exit_code = 2
    code = "invalid_request"


class ModelNotFoundError(RequestError):
    status = 404
    code = "model_not_found"
    param = "model"


class BodyTooLargeError(RequestError):
    status = 413
    code = "body_too_large"


class ContextLengthError(RequestError):
    code = "context_length_exceeded"
    param = "messages"


class OverloadedError(FusionError):
    status = 503
    retry = True
    code = "engine_overloaded"
    retry_after = 1.0


class EngineError(FusionError):
    status = 502
    code = "engine_error"


class EngineStartError(EngineError):
    status = 503
    exit_code = 2
    code = "engine_start_failed"


class EngineUnavailableError(EngineError):
    status = 503
    retry = True
    code = "engine_unavailable"
    retry_after = 5.0


class EngineTimeoutError(EngineError):
    status = 504
    code = "engine_timeout"


class QuorumError(FusionError):
    status = 503
    code = "all_panels_failed"


class JudgeError(FusionError):
    status = 502
    code = "judge_upstream_error"


class EvaluationError(FusionError):
    exit_code = 2
    code = "evaluation_error"


class DatasetError(EvaluationError):
    code = "dataset_error"


class AuditError(FusionError):
    exit_code = 2
    code = "audit_unavailable"


class TraceError(FusionError):
    """The file of traces is damaged, in use, of another version, or full."""

    status = 503
    exit_code = 2
    code = "traces_unavailable"
