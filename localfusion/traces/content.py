"""What is kept of texts: all, their digests, or nothing. Pure.

Fails closed: a text is kept only under a name that never holds what a client or a model wrote; a
field that comes new is content until it is listed here.
"""

import hashlib
import json
import re

from localfusion.traces.trace import Content

# Names from models.yaml, codes and kinds of ours, our ids.
_KEPT = frozenset(
    re.findall(
        r"\w+",
        "type run_id replay_of request_id key preset policy model models members judge "
        "fallback_judge tool_caller task status reason alone exit finish_reason failure_reason "
        "code kind outcome stage role skipped currency effort watches order partial traces "
        "grace perturb choice error_type",
    )
)
_KEPT_WHOLE = frozenset({"versions", "engine_seconds", "device_seconds", "probabilities"})
_STRUCTURES = frozenset(
    re.findall(
        r"\w+",
        "event events candidate candidates lost sampling usage checks check verdict analysis "
        "stances contradictions partial_coverage unique_insights answer judging truncated "
        "stages panel prefill synthesis critical_path cost messages tool_calls tools functions "
        "request changes settings extract error",
    )
)
# Figures and names from which a text could be told.
_DROPPED = frozenset({"logprobs", "logit_bias", "ignored"})


def redact(value: object, content: Content, name: str = "event") -> object:
    """Return JSON values with as much of their texts as may be kept.

    Args:
        value: Of an event, a prompt or a head.
        content: What may be kept.
        name: Of the field that holds it.
    """
    if content == "full" or name in _KEPT_WHOLE:
        return value
    match value:
        case str():
            return value if name in _KEPT else digest(value, content)
        case list():
            kept = () if name in _DROPPED else value
            return [redact(inner, content, name) for inner in kept]
        case dict() if name in _STRUCTURES:
            return {key: redact(inner, content, key) for key, inner in value.items()}
        case dict():
            is_told = content == "hash" and name not in _DROPPED
            return {"sha256": digest(json.dumps(value), content)} if is_told else {}
        case _:
            return value


def redact_prompt(told: dict[str, object], content: Content) -> dict[str, object]:
    """Return a prompt's JSON form with as much of it as may be kept."""
    known = told["digest"] if content != "none" else None
    kept = redact(told, content)
    assert isinstance(kept, dict)
    return {**kept, "digest": known}


def digest(text: str, content: Content) -> str:
    """Return what stands for a text: nothing, or its SHA-256 and how many characters it had."""
    if content == "none" or not text:
        return ""
    return f"sha256:{hashlib.sha256(text.encode('utf-8', 'replace')).hexdigest()}:{len(text)}"
