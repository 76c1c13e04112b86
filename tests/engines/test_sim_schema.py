"""The smallest values that schemas allow."""

import pytest

from localfusion.engines.sim_schema import minimal_instance
from localfusion.judging import Analysis


def test_smallest_analysis_is_a_valid_one() -> None:
    Analysis.model_validate(minimal_instance(Analysis.model_json_schema()))


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "integer", "minimum": 3}, 3),
        ({"type": "integer", "exclusiveMinimum": 3}, 4),
        ({"type": "number", "maximum": -2}, -2),
        ({"type": "number", "exclusiveMaximum": -2}, -3),
        ({"type": "string", "minLength": 2}, "xx"),
        ({"enum": ["a", "b"]}, "a"),
        ({"const": 7}, 7),
        ({"type": ["null", "string"]}, None),
        ({"type": "boolean"}, False),
        ({"anyOf": [{"type": "null"}, {"type": "string"}]}, None),
        ({"type": "array", "prefixItems": [{"const": 1}], "minItems": 2}, [1, None]),
        ({"$ref": "#/$defs/a~1b", "$defs": {"a/b": {"const": 5}}}, 5),
    ],
)
def test_smallest_value_obeys_the_schema(schema: dict[str, object], value: object) -> None:
    assert minimal_instance(schema) == value


@pytest.mark.parametrize("schema", [{"$ref": "#"}, {"$ref": "#/x"}, {"type": "color"}])
def test_schema_without_a_smallest_value_is_refused(schema: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="schema"):
        minimal_instance(schema)
