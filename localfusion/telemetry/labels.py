"""The closed lists that label values come from: a request can never make a series. Pure."""

from collections.abc import Iterable

UNKNOWN = "unknown"
"""In place of whatever is on no list."""

REASONS = frozenset(
    {
        # Of the request itself (errors.py and server/).
        "body_too_large",
        "context_length_exceeded",
        "duplicate_key",
        "headers_too_large",
        "host_not_allowed",
        "idempotency_key_reused",
        "insufficient_scope",
        "invalid_api_key",
        "invalid_json",
        "invalid_request",
        "invalid_type",
        "invalid_unicode",
        "method_not_allowed",
        "missing_parameter",
        "model_not_found",
        "not_found",
        "origin_not_allowed",
        "out_of_range",
        "recursion_refused",
        "request_timeout",
        "schema_not_supported",
        "too_many_values",
        "tool_unavailable",
        "trace_not_replayable",
        "unknown_option",
        "unsupported_image",
        "unsupported_media_type",
        "unsupported_parameter",
        "url_too_long",
        # Of admission.
        "draining",
        "engine_overloaded",
        "queue_full",
        "rate_limit_exceeded",
        "traces_unavailable",
        # Of engines.
        "aborted",
        "asleep",
        "count_unsupported",
        "engine_died",
        "engine_error",
        "engine_misconfigured",
        "engine_refused",
        "engine_start_failed",
        "engine_timeout",
        "engine_unavailable",
        "engine_unloaded",
        "malformed_stream",
        "not_served",
        "starting",
        "stats_unsupported",
        "truncated",
        # Of the panel, its members and the pump.
        "all_panels_failed",
        "kv_cache_full",
        "member_empty",
        "member_timeout",
        "not_needed",
        "quorum_not_met",
        "window",
        # Of the judge.
        "deadline_exceeded",
        "judge_empty_completion",
        "judge_not_valid_json",
        "judge_schema_mismatch",
        "judge_upstream_error",
        # Of the machine.
        "config_error",
        "internal_error",
        "placement_error",
        "weights_error",
    }
)
"""Codes of errors and failures; a test compares them with those in the code."""


class Labels:
    """What models.yaml names.

    Args:
        presets: Their names; a model that is asked by its own name is a preset of itself.
        models: Their names.
    """

    def __init__(self, presets: Iterable[str], models: Iterable[str]) -> None:
        self.models = frozenset(models)
        self.presets = frozenset(presets) | self.models

    def preset(self, name: str) -> str:
        return name if name in self.presets else UNKNOWN

    def model(self, name: str) -> str:
        return name if name in self.models else UNKNOWN


def reason(code: str | None) -> str:
    """Return a failure's code as a label."""
    return code if code in REASONS else UNKNOWN
