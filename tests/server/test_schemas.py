"""What a client's JSON schema may be: everything that a decoder can hold to, and no bomb."""

import json
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localfusion.errors import RequestError
from localfusion.server.schemas import check_pattern, check_schema


def nested(depth: int) -> dict[str, object]:
    schema: dict[str, object] = {"type": "string"}
    for _ in range(depth - 1):
        schema = {"type": "array", "items": schema}
    return schema


def named(**fields: object) -> dict[str, object]:
    return {"type": "object", "properties": fields}


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
]

BAD: list[tuple[Mapping[str, object], str]] = [
    ({"description": "x" * (65 << 10)}, "f"),
    (nested(17), "f"),
    (named(**{f"p{i}": True for i in range(501)}), "f"),
    ({"enum": list(range(1001))}, "f.enum"),
    ({"enum": []}, "f.enum"),
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


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "type",
                    "properties",
                    "items",
                    "anyOf",
                    "$ref",
                    "$defs",
                    "enum",
                    "pattern",
                    "x",
                    "not",
                ]
            ),
            inner | st.sampled_from(["#", "#/$defs/x", "#/items", "#/anyOf/0", "string", "a{9}"]),
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(["properties", "items", "anyOf", "$ref", "$defs"]), JSON))
def test_any_object_is_taken_or_refused_and_nothing_else(schema: dict[str, object]) -> None:
    try:
        check_schema(schema, "f")
    except RequestError as error:
        assert error.code == "schema_not_supported"  # noqa: PT017  both outcomes are good


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
