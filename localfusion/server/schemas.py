"""Bounds on JSON schemas and patterns of a client. Pure."""

from collections.abc import Mapping

import re2

from localfusion.errors import RequestError


def check_schema(schema: Mapping[str, object], where: str) -> None:
    """Refuse a schema that a decoder could not hold to."""


def check_pattern(pattern: str, where: str) -> None:
    """Refuse a pattern that RE2 does not take."""
    try:
        re2.compile(pattern)
    except re2.error as error:
        raise RequestError(
            f"{where} is no pattern of RE2; write a simpler one",
            code="schema_not_supported",
            param=where,
        ) from error
