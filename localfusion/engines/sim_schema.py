"""The smallest value that a JSON schema allows: what a simulated decoder says under a schema."""

from collections.abc import Mapping, Sequence
from typing import cast

Schema = Mapping[str, object]

MAX_DEPTH = 32


def minimal_instance(schema: Schema) -> object:
    """Return a small value that obeys the schema.

    Knows what pydantic writes: references, ``anyOf``, ``enum``, ``const``, bounds on lengths, items
    and numbers. Optional properties are filled in too, for their names are what a reader looks for.

    Raises:
        ValueError: deeper than 32 levels (a reference to itself), a dead reference, or an unknown
            type.
    """
    return _build(schema, schema, 0)


def _build(schema: Schema, root: Schema, depth: int) -> object:
    if depth > MAX_DEPTH:
        raise ValueError(f"the schema nests deeper than {MAX_DEPTH} levels")
    if "$ref" in schema:
        return _build(_resolve(str(schema["$ref"]), root), root, depth + 1)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return cast(Sequence[object], schema["enum"])[0]
    for key in ("anyOf", "oneOf", "allOf"):
        if key in schema:
            return _build(cast(Sequence[Schema], schema[key])[0], root, depth + 1)
    return _build_type(schema, root, depth)


def _build_type(schema: Schema, root: Schema, depth: int) -> object:
    kind = schema.get("type", "object")
    if isinstance(kind, list):
        kind = kind[0]
    match kind:
        case "object":
            properties = cast(Mapping[str, Schema], schema.get("properties", {}))
            return {name: _build(part, root, depth + 1) for name, part in properties.items()}
        case "array":
            return _build_array(schema, root, depth)
        case "string":
            return "x" * cast(int, schema.get("minLength", 0))
        case "integer" | "number":
            return _smallest_number(schema)
        case "boolean":
            return False
        case "null":
            return None
        case _:
            raise ValueError(f"unknown type {kind!r} in the schema")


def _build_array(schema: Schema, root: Schema, depth: int) -> list[object]:
    first = cast(Sequence[Schema], schema.get("prefixItems", ()))
    items = [_build(part, root, depth + 1) for part in first]
    missing = cast(int, schema.get("minItems", 0)) - len(items)
    rest = cast(Schema, schema.get("items") or {"type": "null"})
    return items + [_build(rest, root, depth + 1) for _ in range(missing)]


def _smallest_number(schema: Schema) -> int | float:
    if "minimum" in schema:
        return cast(float, schema["minimum"])
    if "exclusiveMinimum" in schema:
        return cast(float, schema["exclusiveMinimum"]) + 1
    if "maximum" in schema:
        return min(0, cast(float, schema["maximum"]))
    if "exclusiveMaximum" in schema:
        return min(0, cast(float, schema["exclusiveMaximum"]) - 1)
    return 0


def _resolve(reference: str, root: Schema) -> Schema:
    part = root
    for name in reference.removeprefix("#").split("/")[1:]:
        key = name.replace("~1", "/").replace("~0", "~")
        if key not in part:
            raise ValueError(f"the schema has nothing at {reference}")
        part = cast(Schema, part[key])
    return part
