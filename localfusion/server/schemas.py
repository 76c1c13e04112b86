"""Bounds on JSON schemas and patterns of a client, for what a decoder can compile. Pure.

vLLM gives the compilation of a grammar no time limit (vllm-project/vllm #54003), and one schema can
end an engine (CVE-2026-105757), so that nothing without bounds is passed on.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import dataclass, field

import re2

from localfusion.errors import RequestError

MAX_BYTES = 64 << 10
MAX_DEPTH = 16
MAX_PROPERTIES = 500
MAX_ENUM = 1000
MAX_BRANCHES = 64
MAX_PATTERN = 256
MAX_WRITTEN_OUT = 5000
"""Schemas in one, each reference counted as what it stands for: sixteen levels of references, four
to each, are a billion."""
MAX_COUNT = 1 << 20
"""Of ``minItems``, ``maxLength`` and the like."""
PATTERN_BYTES = 1 << 20
"""Memory in which RE2 must be able to compile a pattern."""

_TYPES = frozenset({"null", "boolean", "object", "array", "number", "string", "integer"})


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_COUNT


def _are_names(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _are_types(value: object) -> bool:
    names = value if isinstance(value, list) else [value]
    return 0 < len(names) == sum(name in names for name in _TYPES)


# A value of another kind is an exception in a decoder or a validator, and no JSON schema at all.
_WANTED: Mapping[str, tuple[Callable[[object], bool], str]] = {
    "type": (_are_types, "one or several of the types of JSON"),
    "enum": (
        lambda value: isinstance(value, list) and 0 < len(value) <= MAX_ENUM,
        f"a list of 1 to {MAX_ENUM} values",
    ),
    "required": (_are_names, "a list of names"),
    "dependentRequired": (
        lambda value: isinstance(value, dict) and all(map(_are_names, value.values())),
        "an object of lists of names",
    ),
    "multipleOf": (
        lambda value: isinstance(value, int | float) and value is not True and value > 0,
        "a number above 0",
    ),
    "uniqueItems": (lambda value: isinstance(value, bool), "true or false"),
    "$vocabulary": (lambda value: isinstance(value, dict), "an object"),
    **dict.fromkeys(
        ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"), (_is_number, "a number")
    ),
    **dict.fromkeys(
        (
            *("minItems", "maxItems", "minLength", "maxLength"),
            *("minProperties", "maxProperties", "minContains", "maxContains"),
        ),
        (_is_count, f"an integer from 0 to {MAX_COUNT}"),
    ),
    **dict.fromkeys(
        ("pattern", "format", "$id", "$schema", "$anchor", "$dynamicAnchor"), (_is_text, "a string")
    ),
}
_BRANCHES = ("anyOf", "oneOf", "allOf")
_SCHEMAS_BY_NAME = ("properties", "patternProperties", "dependentSchemas")
_DEFINITIONS = ("$defs", "definitions")
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
_DYNAMIC = ("$dynamicRef", "$recursiveRef")
_Schema = Mapping[str, object]


def check_schema(schema: _Schema, where: str) -> None:
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
    seen: set[int] = set()
    found: list[tuple[object, str]] = []
    stack: list[tuple[_Schema, str, int]] = [(schema, where, 1)]
    while stack:
        node, path, depth = stack.pop()
        seen.add(id(node))
        if depth > MAX_DEPTH:
            raise _refused(where, f"nests deeper than {MAX_DEPTH} levels; flatten it")
        _check_node(node, path)
        if "$ref" in node:
            found.append((node["$ref"], f"{path}.$ref"))
        named = node.get("properties")
        properties += len(named) if isinstance(named, dict) else 0
        branches += sum(len(b) for key in _BRANCHES if isinstance(b := node.get(key), list))
        if properties > MAX_PROPERTIES:
            raise _refused(where, f"has more than {MAX_PROPERTIES} properties; remove some")
        if branches > MAX_BRANCHES:
            raise _refused(where, f"has more than {MAX_BRANCHES} branches; remove some")
        stack.extend((child, inner, depth + 1) for child, inner in _children(node, path))
    references = _References(schema, where, seen)
    for reference, path in found:
        references.measure_target(reference, path, ("#",))
    references.measure(schema, where, ("#",))


def check_pattern(pattern: str, where: str) -> None:
    """Refuse a regular expression that RE2, which takes linear time, does not compile.

    Raises:
        RequestError: code ``schema_not_supported``.
    """
    if len(pattern) > MAX_PATTERN:
        raise _refused(where, f"has more than {MAX_PATTERN} characters; shorten it")
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


def _check_node(node: _Schema, path: str) -> None:
    for key, (is_right, wanted) in _WANTED.items():
        if key in node and not is_right(node[key]):
            raise _refused(f"{path}.{key}", f"must be {wanted}; send that")
    if "pattern" in node:
        check_pattern(str(node["pattern"]), f"{path}.pattern")
    named = node.get("patternProperties")
    for pattern in named if isinstance(named, dict) else ():
        check_pattern(pattern, f"{path}.patternProperties")
    for key in _DYNAMIC:
        if key in node:
            raise _refused(f"{path}.{key}", "is not supported; write it out with $ref")


def _children(
    node: _Schema, path: str, *, definitions: bool = True
) -> Iterator[tuple[_Schema, str]]:
    for key in (*_SCHEMAS_BY_NAME, *(_DEFINITIONS if definitions else ())):
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


def _schema(value: object, path: str) -> Iterator[tuple[_Schema, str]]:
    if isinstance(value, dict):
        yield value, path
    elif not isinstance(value, bool):
        raise _refused(path, "must be a schema; send an object or a boolean")


@dataclass(frozen=True, slots=True)
class _References:
    """Refuses references that leave the schema, lead nowhere, come back, or multiply.

    Attributes:
        seen: Ids of the schemas that were checked: a reference may lead to no other place.
        sizes: How many schemas each reference stands for.
    """

    schema: _Schema
    where: str
    seen: Set[int]
    sizes: dict[str, int] = field(default_factory=dict)

    def measure(self, node: _Schema, path: str, above: tuple[str, ...]) -> int:
        size = 0
        inside = [(node, path)]
        while inside:
            current, place = inside.pop()
            size += 1
            if "$ref" in current:
                size += self.measure_target(current["$ref"], f"{place}.$ref", above)
            if size > MAX_WRITTEN_OUT:
                what = f"has more than {MAX_WRITTEN_OUT} parts with references written out"
                raise _refused(self.where, f"{what}; simplify it")
            inside.extend(_children(current, place, definitions=False))
        return size

    def measure_target(self, reference: object, path: str, above: tuple[str, ...]) -> int:
        if not isinstance(reference, str) or not (reference == "#" or reference.startswith("#/")):
            raise _refused(path, "must point inside the schema; begin it with #/")
        if reference in above or len(above) > MAX_DEPTH:
            raise _refused(path, "leads back to itself or too far; write it out")
        if reference not in self.sizes:
            target = self._resolve(reference, path)
            place = self.where + ".".join(map(_shown, reference[1:].split("/")))
            self.sizes[reference] = self.measure(target, place, (*above, reference))
        return self.sizes[reference]

    def _resolve(self, reference: str, path: str) -> _Schema:
        found: object = self.schema
        for part in reference.split("/")[1:]:
            name = part.replace("~1", "/").replace("~0", "~")
            if isinstance(found, dict):
                found = found.get(name)
            elif isinstance(found, list) and name.isascii() and name.isdecimal() and len(name) < 6:
                found = found[int(name)] if int(name) < len(found) else None
            else:
                found = None
        if not isinstance(found, dict) or id(found) not in self.seen:
            raise _refused(path, "leads to no schema; point it at one")
        return found


def _shown(name: str) -> str:
    return name if len(name) <= 40 and name.isascii() and name.isprintable() else "?"


def _refused(where: str, what: str) -> RequestError:
    return RequestError(f"{where} {what}", code="schema_not_supported", param=where)
