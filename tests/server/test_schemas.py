"""What a client's JSON schema may be: everything that a decoder can hold to, and no bomb."""

import json
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localfusion.errors import RequestError
from localfusion.fusion.schema import obeys
from localfusion.server.schemas import check_pattern, check_schema


def nested(depth: int) -> dict[str, object]:
    schema: dict[str, object] = {"type": "string"}
    for _ in range(depth - 1):
        schema = {"type": "array", "items": schema}
    return schema


def named(**fields: object) -> dict[str, object]:
    return {"type": "object", "properties": fields}


def billion(keyword: str, last: object) -> dict[str, object]:
    """Sixteen definitions, each of four times the next one."""
    four = [{"$ref": f"#/$defs/d{i}"} for i in range(1, 17) for _ in range(4)]
    defs: dict[str, object] = {"d15": last}
    for place in range(15):
        parts = four[4 * place : 4 * place + 4]
        defs[f"d{place}"] = {
            keyword: parts if keyword == "allOf" else dict(zip("abcd", parts, strict=True))
        }
    return {"$ref": "#/$defs/d0", "$defs": defs}


GOOD: list[Mapping[str, object]] = [
    {},
    {"type": "object"},
    nested(16),
    named(**{f"p{i}": {"type": "string"} for i in range(500)}),
    {"enum": list(range(1000))},
    {"anyOf": [{"type": "string"}] * 64},
    {"type": "string", "pattern": "(a+)+$"},
    {"type": "string", "format": "date", "unheard-of": {"of": 7}},
    {"$ref": "#/$defs/a", "$defs": {"a": {"type": "object", "additionalProperties": False}}},
    named(a={"$ref": "#/$defs/x"}, b={"$ref": "#/$defs/x"}) | {"$defs": {"x": {"type": "null"}}},
    {"$ref": "#/anyOf/1", "anyOf": [True, {"type": "string"}]},
    {"patternProperties": {"^x-": {"type": "string"}}},
    {"type": "string", "pattern": r"^\p{Lu}+$"},
]

BAD: list[tuple[Mapping[str, object], str]] = [
    ({"description": "x" * (65 << 10)}, "f"),
    (nested(17), "f"),
    (named(**{f"p{i}": True for i in range(501)}), "f"),
    ({"enum": list(range(1001))}, "f.enum"),
    ({"enum": []}, "f.enum"),
    ({"type": "object", "required": 5}, "f.required"),
    ({"type": "wizard"}, "f.type"),
    ({"anyOf": [{}] * 65}, "f"),
    (named(a={"oneOf": [{}] * 40}, b={"allOf": [{}] * 40}), "f"),
    (named(a={"pattern": "(?<=x)y"}), "f.properties.a.pattern"),
    ({"pattern": r"(a)\1"}, "f.pattern"),
    ({"pattern": "a{1,5000}"}, "f.pattern"),
    ({"pattern": "x" * 257}, "f.pattern"),
    ({"pattern": 7}, "f.pattern"),
    ({"$ref": "https://example.org/schema"}, "f.$ref"),
    ({"$ref": "#/$defs/none"}, "f.$ref"),
    ({"$ref": "#"}, "f.$ref"),
    (
        {"$ref": "#/$defs/a", "$defs": {"a": named(b={"$ref": "#/$defs/a"})}},
        "f.$defs.a.properties.b.$ref",
    ),
    ({"items": {"minItems": 10**9}}, "f.items.minItems"),
    ({"maxLength": -1}, "f.maxLength"),
    ({"maxLength": True}, "f.maxLength"),
    ({"properties": [1]}, "f.properties"),
    ({"items": 7}, "f.items"),
    ({"anyOf": {}}, "f.anyOf"),
    ({"pattern": None}, "f.pattern"),
    ({"type": "text"}, "f.type"),
    ({"type": ["string", "string"]}, "f.type"),
    ({"type": {"x": 1}}, "f.type"),
    ({"required": "a"}, "f.required"),
    ({"dependentRequired": {"a": 1}}, "f.dependentRequired"),
    ({"multipleOf": 0}, "f.multipleOf"),
    ({"minimum": "0"}, "f.minimum"),
    ({"uniqueItems": 1}, "f.uniqueItems"),
    ({"$id": 7}, "f.$id"),
    ({"patternProperties": {"(?<=x)y": True}}, "f.patternProperties"),
    ({"$dynamicRef": "#"}, "f.$dynamicRef"),
    ({"$ref": "#/x", "x": {"pattern": "(?<=x)y"}}, "f.$ref"),
    ({"$ref": "#/properties", "properties": {"type": {}}}, "f.$ref"),
    ({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": True}}, "f.$defs.a.$ref"),
    (billion("allOf", {"type": "string"}), "f"),
    (billion("properties", {"type": "string"}), "f"),
]


@pytest.mark.parametrize("schema", GOOD, ids=range(len(GOOD)))
def test_schema_within_bounds_is_taken(schema: Mapping[str, object]) -> None:
    check_schema(schema, "f")


@pytest.mark.parametrize(("schema", "param"), BAD, ids=range(len(BAD)))
def test_schema_beyond_a_bound_is_refused_by_place(
    schema: Mapping[str, object], param: str
) -> None:
    with pytest.raises(RequestError) as refused:
        check_schema(schema, "f")

    assert (refused.value.code, refused.value.param) == ("schema_not_supported", param)
    assert str(refused.value).startswith(param)
    assert "; " in str(refused.value)


KEYS = st.sampled_from(
    ["type", "properties", "items", "anyOf", "$ref", "$defs", "enum", "pattern", "x", "not"]
)
WORDS = st.sampled_from(["#", "#/$defs/x", "#/items", "#/anyOf/0", "string", "object", "a{9}"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)
NESTED = ("items", "not", "if", "then", "additionalProperties", "contains", "unevaluatedItems")
LISTED = ("anyOf", "oneOf", "allOf", "prefixItems")
NAMED = ("properties", "patternProperties", "$defs", "dependentSchemas")
OTHERS = (
    *("type", "enum", "const", "required", "dependentRequired", "pattern", "format", "$ref"),
    *("minimum", "exclusiveMaximum", "multipleOf", "uniqueItems", "minItems", "maxLength"),
    *("minContains", "minProperties", "$id", "$anchor", "$vocabulary", "$comment"),
)
VALUES = JSON | st.sampled_from(["null", "array", ["string", "object"], 0.5, "^x*$", ["a"], "a:b"])
SCHEMAS: st.SearchStrategy[object] = st.deferred(
    lambda: (
        st.booleans()
        | st.fixed_dictionaries(
            {},
            optional={
                **dict.fromkeys(OTHERS, VALUES),
                **dict.fromkeys(NESTED, SCHEMAS),
                **dict.fromkeys(LISTED, st.lists(SCHEMAS, min_size=1, max_size=2)),
                **dict.fromkeys(
                    NAMED, st.dictionaries(st.sampled_from("abx"), SCHEMAS, max_size=2)
                ),
            },
        )
    )
)
SMALL = st.lists(
    st.tuples(st.sampled_from([*OTHERS, "properties", "items", "anyOf"]), VALUES), max_size=4
)


def is_taken(schema: dict[str, object]) -> bool:
    try:
        check_schema(schema, "f")
    except RequestError as error:
        assert error.code == "schema_not_supported"  # noqa: PT017  both outcomes are good
        return False
    return True


@given(st.dictionaries(KEYS, JSON, max_size=5))
def test_any_object_is_taken_or_refused_and_nothing_else(schema: dict[str, object]) -> None:
    is_taken(schema)


@given(SMALL.map(dict) | SCHEMAS.filter(lambda schema: isinstance(schema, dict)), JSON)
def test_taken_schema_can_be_held_to(schema: dict[str, object], value: object) -> None:
    if is_taken(schema):
        obeys(json.dumps(value), schema)


def test_many_references_to_references_take_no_time() -> None:
    defs = {
        f"d{i}": named(a={"$ref": f"#/$defs/d{i + 1}"}, b={"$ref": f"#/$defs/d{i + 1}"})
        for i in range(10)
    }
    schema = {"$ref": "#/$defs/d0", "$defs": {**defs, "d10": {"type": "null"}}}

    check_schema(schema, "f")

    assert len(json.dumps(schema)) < 2000


@pytest.mark.parametrize("pattern", ["(", "(?=x)", r"\1", "(a{1000}){1000}"])
def test_pattern_that_is_not_linear_is_refused(pattern: str) -> None:
    with pytest.raises(RequestError) as refused:
        check_pattern(pattern, "fusion.extract.pattern")

    assert refused.value.param == "fusion.extract.pattern"


def test_pattern_that_re2_takes_is_taken() -> None:
    check_pattern(r"(?i)answer:\s*(\d+)", "x")
