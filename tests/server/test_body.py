"""parse_body: rows M15 to M23 of the malformed-input table, and properties."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localfusion.errors import RequestError
from localfusion.server.body import MAX_DEPTH, MAX_VALUES, parse_body

MALFORMED = [
    ("M15 empty", b"", "invalid_json", None),
    ("M15 no JSON", b"hello", "invalid_json", None),
    ("M15 trailing data", b'{"a":1} x', "invalid_json", None),
    ("M15 comment", b'// x\n{"a":1}', "invalid_json", None),
    ("M15 trailing comma", b'{"a":1,}', "invalid_json", None),
    ("M15 single quotes", b"{'a':1}", "invalid_json", None),
    ("M16 bad UTF-8", b'{"a":"\xff"}', "invalid_json", None),
    ("M16 overlong UTF-8", b'{"a":"\xc0\xaf"}', "invalid_json", None),
    ("M16 UTF-16", '{"a":1}'.encode("utf-16"), "invalid_json", None),
    ("M16 BOM", b'\xef\xbb\xbf{"a":1}', "invalid_json", None),
    ("M17 list", b"[]", "invalid_type", None),
    ("M17 string", b'"x"', "invalid_type", None),
    ("M17 number", b"1", "invalid_type", None),
    ("M17 null", b"null", "invalid_type", None),
    ("M17 true", b"true", "invalid_type", None),
    ("M18 depth 65", b'{"a":' + b"[" * 64 + b"]" * 64 + b"}", "invalid_json", None),
    ("M18 depth 5,000", b"[" * 5_000 + b"]" * 5_000, "invalid_json", None),
    ("M18 depth 200,000", b"[" * 200_000 + b"]" * 200_000, "invalid_json", None),
    ("M18 deep behind a bad string", b'["\\ud800",' + b"[" * 9_000, "invalid_json", None),
    ("M18 300,000 values", b'{"a":[' + b"1," * 299_999 + b"1]}", "too_many_values", None),
    ("M20 2^63", b'{"seed":9223372036854775808}', "out_of_range", "seed"),
    ("M20 20 digits", b'{"a":[1,{"b":' + b"9" * 20 + b"}]}", "out_of_range", "a[1].b"),
    ("M20 4,300 digits", b'{"a":' + b"9" * 4_300 + b"}", "out_of_range", "a"),
    ("M20 5,000 digits", b'{"a":-' + b"9" * 5_000 + b"}", "out_of_range", "a"),
    ("M20 1e999", b'{"temperature":1e999}', "out_of_range", "temperature"),
    ("M20 NaN", b'{"a":NaN}', "invalid_json", None),
    ("M20 Infinity", b'{"a":Infinity}', "invalid_json", None),
    ("M20 -Infinity", b'{"a":-Infinity}', "invalid_json", None),
    ("M22 key twice", b'{"n":1,"n":2}', "duplicate_key", "n"),
    ("M22 inner key twice", b'{"a":[{"b":1,"c":2,"b":3}]}', "duplicate_key", "a[0].b"),
    ("M23 surrogate", b'{"a":["x\\ud800"]}', "invalid_unicode", "a[0]"),
    ("M23 surrogate as key", b'{"a":{"\\udc00":1}}', "invalid_unicode", "a"),
    ("M23 U+0000", b'{"a":"x\\u0000"}', "invalid_unicode", "a"),
    ("M23 U+0000 as key", b'{"\\u0000":1}', "invalid_unicode", None),
]


@pytest.mark.parametrize(
    ("raw", "code", "param"), [row[1:] for row in MALFORMED], ids=[row[0] for row in MALFORMED]
)
def test_malformed_body_is_refused(raw: bytes, code: str, param: str | None) -> None:
    with pytest.raises(RequestError) as refused:
        parse_body(raw)

    assert refused.value.code == code
    assert refused.value.param == param
    assert "; " in str(refused.value), "a remedy follows the semicolon"


def test_syntax_error_names_line_and_column() -> None:
    with pytest.raises(RequestError, match="line 2 column 4"):
        parse_body(b'{"a":1,\n"b"x}')


def test_position_of_a_bad_character_is_named() -> None:
    with pytest.raises(RequestError, match=r"a: U\+0000 at character 2 is not allowed"):
        parse_body(b'{"a":"xy\\u0000"}')


@pytest.mark.parametrize(
    "raw",
    [
        b'{"a":"\\ud83d\\ude00"}',
        '{"a":"\u202eevil\x7f"}'.encode(),
        b'{"a":"\\u0001\\u001b"}',
        b'{"a":9223372036854775807,"b":-9223372036854775808}',
        b'{"a":' + b"[" * (MAX_DEPTH - 1) + b"]" * (MAX_DEPTH - 1) + b"}",
        b'{"a":[' + b"1," * (MAX_VALUES - 3) + b"1]}",
    ],
    ids=["emoji pair", "bidi", "controls", "64 bits", "depth 64", "200,000 values"],
)
def test_unusual_but_sound_body_is_accepted(raw: bytes) -> None:
    assert parse_body(raw) == json.loads(raw)


SOUND_TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
SOUND = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | SOUND_TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(SOUND_TEXT, inner),
    max_leaves=8,
)


@given(st.dictionaries(SOUND_TEXT, SOUND), st.booleans())
def test_sound_documents_come_through_unchanged(
    document: dict[str, object], only_ascii: bool
) -> None:
    assert parse_body(json.dumps(document, ensure_ascii=only_ascii).encode()) == document


JSON_LIKE = st.text(
    st.sampled_from('{}[]",:\\0123456789.eE+-truefalsn ud8\ud800\x00é'), max_size=60
)


@given(st.binary(max_size=80) | JSON_LIKE.map(lambda text: text.encode(errors="surrogatepass")))
def test_any_bytes_are_parsed_or_refused(raw: bytes) -> None:
    try:
        document = parse_body(raw)
    except RequestError:
        return

    assert document == json.loads(raw)
    assert all(math.isfinite(v) for v in document.values() if isinstance(v, float))


@given(SOUND)
def test_values_are_never_echoed(document: object) -> None:
    raw = json.dumps({"a": document, "b": "\0canary"}).encode()

    with pytest.raises(RequestError) as refused:
        parse_body(raw)

    assert "canary" not in str(refused.value)
