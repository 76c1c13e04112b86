"""Bounds on JSON schemas and patterns of a client, for what a decoder can compile. Pure.

vLLM gives the compilation of a grammar no time limit (vllm-project/vllm #54003), and one schema can
end an engine (CVE-2026-105757), so that nothing without bounds is passed on.
"""

import json
from collections.abc import Iterator, Mapping, Sequence

import re2

from localfusion.errors import RequestError

MAX_BYTES = 64 << 10
MAX_DEPTH = 16
MAX_PROPERTIES = 500
MAX_ENUM = 1000
MAX_BRANCHES = 64
MAX_PATTERN = 256
MAX_COUNT = 1 << 20
"""Of ``minItems``, ``maxLength`` and the like."""
PATTERN_BYTES = 1 << 20
"""Memory in which RE2 must be able to compile a pattern."""

_COUNTS = frozenset(
    {"minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties"}
)
_BRANCHES = ("anyOf", "oneOf", "allOf")
_SCHEMAS_BY_NAME = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
_SCHEMAS = (
    "items",
    "additionalProperties",
    "unevaluatedProperties",
    "unevaluatedItems",
    "propertyNames",
    "contains",
    "not",
    "if",
    "then",
    "else",
)
_Node = tuple[Mapping[str, object], str, int]


def check_schema(schema: Mapping[str, object], where: str) -> None:
    """Refuse a schema that a decoder may not be able to hold to.

    Args:
        schema: As the client sent it.
        where: Its place in the body.

    Raises:
        RequestError: code ``schema_not_supported``; says which bound, and where.
    """
    if len(json.dumps(schema).encode()) > MAX_BYTES:
        raise _refused(where, f"has more than {MAX_BYTES} bytes; shorten it")
    properties = branches = 0
    stack: list[_Node] = [(schema, where, 1)]
    while stack:
        node, path, depth = stack.pop()
        if depth > MAX_DEPTH:
            raise _refused(where, f"nests deeper than {MAX_DEPTH} levels; flatten it")
        _check_node(node, path)
        named = node.get("properties")
        properties += len(named) if isinstance(named, dict) else 0
        branches += sum(len(b) for key in _BRANCHES if isinstance(b := node.get(key), list))
        if properties > MAX_PROPERTIES:
            raise _refused(where, f"has more than {MAX_PROPERTIES} properties; remove some")
        if branches > MAX_BRANCHES:
            raise _refused(where, f"has more than {MAX_BRANCHES} branches; remove some")
        stack.extend((child, inner, depth + 1) for child, inner in _children(node, path))
    _check_references(schema, where)


def check_pattern(pattern: str, where: str) -> None:
    """Refuse a regular expression that RE2, which takes linear time, does not compile.

    Raises:
        RequestError: code ``schema_not_supported``.
    """
    options = re2.Options()
    options.max_mem = PATTERN_BYTES
    options.log_errors = False
    try:
        re2.compile(pattern, options=options)
    except re2.error as error:
        raise _refused(
            where,
            "is no pattern of RE2, or too large: no backreferences, no look-around, no great "
            "repetitions; write a simpler one",
        ) from error


def _check_node(node: Mapping[str, object], path: str) -> None:
    for key in _COUNTS & node.keys():
        value = node[key]
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MAX_COUNT:
            raise _refused(f"{path}.{key}", f"must be an integer from 0 to {MAX_COUNT}; lower it")
    values = node.get("enum")
    if "enum" in node and (not isinstance(values, list) or not 0 < len(values) <= MAX_ENUM):
        raise _refused(f"{path}.enum", f"must be a list of 1 to {MAX_ENUM} values; shorten it")
    pattern = node.get("pattern")
    if isinstance(pattern, str):
        if len(pattern) > MAX_PATTERN:
            raise _refused(f"{path}.pattern", f"has more than {MAX_PATTERN} characters; shorten it")
        check_pattern(pattern, f"{path}.pattern")
    elif pattern is not None:
        raise _refused(f"{path}.pattern", "must be a string; send one")


def _children(node: Mapping[str, object], path: str) -> Iterator[tuple[Mapping[str, object], str]]:
    for key in _SCHEMAS_BY_NAME:
        named = node.get(key)
        if isinstance(named, dict):
            for name, child in named.items():
                yield from _schema(child, f"{path}.{key}.{_shown(name)}")
        elif named is not None:
            raise _refused(f"{path}.{key}", "must be an object of schemas; send one")
    for key in _SCHEMAS:
        yield from _schema(node.get(key, True), f"{path}.{key}")
    for key in (*_BRANCHES, "prefixItems"):
        listed = node.get(key)
        if isinstance(listed, list):
            for place, child in enumerate(listed):
                yield from _schema(child, f"{path}.{key}[{place}]")
        elif listed is not None:
            raise _refused(f"{path}.{key}", "must be a list of schemas; send one")


def _schema(value: object, path: str) -> Iterator[tuple[Mapping[str, object], str]]:
    if isinstance(value, dict):
        yield value, path
    elif not isinstance(value, bool):
        raise _refused(path, "must be a schema; send an object or a boolean")


def _check_references(schema: Mapping[str, object], where: str) -> None:
    """Refuse references that leave the schema, lead nowhere, or come back to themselves."""
    done: set[str] = set()

    def follow(node: Mapping[str, object], path: str, above: tuple[str, ...]) -> None:
        inside: list[_Node] = [(node, path, 0)]
        while inside:
            current, place, depth = inside.pop()
            reference = current.get("$ref")
            if reference is not None:
                target = _resolve(schema, reference, f"{place}.$ref")
                if reference in above or len(above) > MAX_DEPTH:
                    raise _refused(f"{place}.$ref", "leads back to itself; write it out")
                if reference not in done:
                    follow(
                        target,
                        f"{where}{str(reference)[1:].replace('/', '.')}",
                        (*above, str(reference)),
                    )
                    done.add(str(reference))
            inside.extend((child, inner, depth) for child, inner in _children(current, place))

    follow(schema, where, ("#",))


def _resolve(schema: Mapping[str, object], reference: object, path: str) -> Mapping[str, object]:
    if not isinstance(reference, str) or not (reference == "#" or reference.startswith("#/")):
        raise _refused(path, "must point inside the schema; begin it with #/")
    found: object = schema
    for part in reference[2:].split("/") if reference != "#" else ():
        name = part.replace("~1", "/").replace("~0", "~")
        if isinstance(found, dict) and name in found:
            found = found[name]
        elif isinstance(found, Sequence) and name.isascii() and name.isdecimal():
            found = found[int(name)] if len(name) < 6 and int(name) < len(found) else None
        else:
            found = None
    if not isinstance(found, dict):
        raise _refused(path, "leads to no schema; point it at one")
    return found


def _shown(name: str) -> str:
    return name if len(name) <= 40 and name.isascii() and name.isprintable() else "?"


def _refused(where: str, what: str) -> RequestError:
    return RequestError(f"{where} {what}", code="schema_not_supported", param=where)
