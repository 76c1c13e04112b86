"""Headers and figures: exact where they are right, refused where they are not."""

import io
import json
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localfusion.errors import WeightsError
from localfusion.memory import Layers
from localfusion.weights import read_facts
from localfusion.weights.facts import parse_header
from tests.weights.places import LLAMA, safetensors, write_model

WIDTHS = {"F32": 4, "BF16": 2, "F8_E4M3": 1, "I64": 8}

TENSORS = st.dictionaries(
    st.text(min_size=1, max_size=20).filter(lambda name: name != "__metadata__"),
    st.tuples(st.sampled_from(sorted(WIDTHS)), st.lists(st.integers(0, 7), max_size=3)),
    max_size=6,
)


def with_sizes(
    tensors: dict[str, tuple[str, list[int]]],
) -> dict[str, tuple[str, list[int], int]]:
    sized = {}
    for name, (dtype, shape) in tensors.items():
        elements = 1
        for side in shape:
            elements *= side
        sized[name] = (dtype, shape, elements * WIDTHS[dtype])
    return sized


@given(TENSORS)
def test_header_gives_back_every_tensor(tensors: dict[str, tuple[str, list[int]]]) -> None:
    sized = with_sizes(tensors)
    data = safetensors(sized)

    found = parse_header(io.BytesIO(data), len(data))

    assert {t.name: (t.dtype, list(t.shape), t.stored_bytes) for t in found} == sized


@given(TENSORS, st.data())
def test_file_of_any_other_length_is_refused(
    tensors: dict[str, tuple[str, list[int]]], data: st.DataObject
) -> None:
    whole = safetensors(with_sizes(tensors))
    length = data.draw(st.integers(0, len(whole) + 20).filter(lambda n: n != len(whole)))

    with pytest.raises(ValueError, match=r"."):
        parse_header(io.BytesIO(whole[:length].ljust(length, b"\0")), length)


@given(st.binary(max_size=200))
def test_any_bytes_are_parsed_or_refused(data: bytes) -> None:
    try:
        tensors = parse_header(io.BytesIO(data), len(data))
    except (ValueError, RecursionError):
        return
    assert 8 + sum(tensor.stored_bytes for tensor in tensors) <= len(data)


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ({"dtype": "BF16", "shape": [8], "data_offsets": [0, 15]}, "does not fill"),
        ({"dtype": "BF16", "shape": [7], "data_offsets": [2, 16]}, "gap or overlap"),
        ({"dtype": "PICKLE", "shape": [8], "data_offsets": [0, 16]}, "unknown dtype"),
        ({"dtype": "BF16", "shape": [-2, -4], "data_offsets": [0, 16]}, "impossible"),
        ({"dtype": "BF16", "shape": [True, 8], "data_offsets": [0, 16]}, "impossible"),
        ({"dtype": "BF16", "shape": [8]}, "described wrongly"),
        ([], "described wrongly"),
    ],
)
def test_wrong_entry_is_refused(entry: object, reason: str) -> None:
    header = json.dumps({"w": entry}).encode()
    data = struct.pack("<Q", len(header)) + header + bytes(16)

    with pytest.raises(ValueError, match=reason):
        parse_header(io.BytesIO(data), len(data))


def test_key_that_stands_twice_is_refused() -> None:
    one = b'"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}'
    header = b"{" + one + b"," + one + b"}"
    data = struct.pack("<Q", len(header)) + header + b"\0"

    with pytest.raises(ValueError, match="twice"):
        parse_header(io.BytesIO(data), len(data))


def test_length_beyond_the_file_is_refused_before_it_is_read() -> None:
    with pytest.raises(ValueError, match="header of"):
        parse_header(io.BytesIO(struct.pack("<Q", 2**60)), 8)


def test_facts_of_a_folder(tmp_path: Path) -> None:
    facts = read_facts(write_model(tmp_path / "m"))

    shape = facts.shape
    assert (shape.name, shape.hidden_size, shape.vocab_size) == ("LlamaForCausalLM", 64, 32)
    assert shape.layers == (Layers("full", 2, kv_heads=2, key_dim=16, value_dim=16),)
    assert (facts.stored_bytes, facts.parameters, facts.dtype) == (16, 8, "BF16")
    assert shape.max_position_embeddings == 128


def test_float32_and_a_tied_head_count_as_they_are_loaded(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m", {**LLAMA, "tie_word_embeddings": True})
    tensors = {"a": ("F32", (4,), 16), "lm_head.weight": ("BF16", (4,), 8)}
    (folder / "model.safetensors").write_bytes(safetensors(tensors))

    facts = read_facts(folder)

    assert (facts.stored_bytes, facts.weight_bytes) == (24, 8)


def test_shards_that_the_index_names_are_added_up(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m")
    (folder / "model.safetensors").rename(folder / "model-1.safetensors")
    (folder / "model-2.safetensors").write_bytes(safetensors({"v": ("BF16", (4,), 8)}))
    (folder / "unused.safetensors").write_bytes(safetensors({"u": ("BF16", (4,), 8)}))
    index = {"weight_map": {"w": "model-1.safetensors", "v": "model-2.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))

    assert read_facts(folder).weight_bytes == 24


def test_language_model_of_a_vision_model_is_read_from_its_section(tmp_path: Path) -> None:
    nested = {"architectures": ["XForConditionalGeneration"], "text_config": dict(LLAMA)}

    facts = read_facts(write_model(tmp_path / "m", nested))

    assert (facts.shape.name, facts.shape.layers[0].count) == ("XForConditionalGeneration", 2)


def test_missing_figure_is_named(tmp_path: Path) -> None:
    config = {key: value for key, value in LLAMA.items() if key != "num_hidden_layers"}

    with pytest.raises(WeightsError, match="num_hidden_layers"):
        read_facts(write_model(tmp_path / "m", config))


def test_truncated_weights_are_named(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m")
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])

    with pytest.raises(WeightsError, match=r"model\.safetensors is no whole safetensors file"):
        read_facts(folder)
