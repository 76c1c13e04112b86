"""Suites that look at the wire: llm-comply in three formats, and compatcanary."""

import json
from collections.abc import Sequence
from typing import Any

from conformances.environment import Environment
from conformances.suite import KEY, BrokenSuiteError, Cases, Finished, Place, Suite

_COMPLY = Environment("llm-comply", ("llm-comply==0.5.0",))
_CANARY = Environment("compatcanary", ("compatcanary@0.2.2",), "node")

_ANTHROPIC = (
    "--auth-header",
    "x-api-key",
    "--no-bearer",
    "-H",
    "anthropic-version:2023-06-01",
)


def _document(finished: Finished) -> dict[str, Any]:
    start = finished.output.find("{")
    try:
        document = json.JSONDecoder().raw_decode(finished.output[max(start, 0) :])[0]
    except ValueError:
        raise BrokenSuiteError(finished.tail()) from None
    return dict(document)


def _read_comply(finished: Finished) -> Cases:
    return {
        case["id"]: None if case["status"] == "passed" else "; ".join(case["errors"])[:300]
        for case in _document(finished)["results"]
        if case["status"] != "skipped"
    }


def _read_canary(finished: Finished) -> Cases:
    return {
        case["id"]: None if case["status"] == "pass" else case["summary"]
        for case in _document(finished)["results"]
    }


def _comply(form: str, base: str, place: Place) -> Sequence[str]:
    words = (_COMPLY.program("llm-comply"), "--format", form, "-u", base, "-k", KEY)
    return (*words, "-m", place.model, "--json")


def _chat(place: Place) -> Sequence[str]:
    return _comply("openai-chat", place.base, place)


def _responses(place: Place) -> Sequence[str]:
    return _comply("open-responses", place.base, place)


def _messages(place: Place) -> Sequence[str]:
    return (*_comply("anthropic", place.base, place), *_ANTHROPIC)


def _canary(place: Place) -> Sequence[str]:
    words = (_CANARY.program("compatcanary"), "scan", "--base-url", place.base)
    return (*words, "--model", place.model, "--profile", "modern", "--format", "json")


SUITES = (
    Suite("llm-comply chat", _COMPLY, _chat, _read_comply, is_fast=True),
    Suite(
        "llm-comply responses",
        _COMPLY,
        _responses,
        _read_comply,
        model="plain",
        route="/v1/responses",
    ),
    Suite("llm-comply fusion item", _COMPLY, _responses, _read_comply, route="/v1/responses"),
    Suite("llm-comply messages", _COMPLY, _messages, _read_comply, route="/v1/messages"),
    Suite("compatcanary", _CANARY, _canary, _read_canary, is_fast=True),
)
