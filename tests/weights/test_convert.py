"""The conversion with the real libraries, on a GGUF file of two layers."""

import json
from pathlib import Path

import pytest

from localfusion.memory import Layers
from localfusion.weights import pull, read_facts, resolve
from tests.weights.places import write_config

pytestmark = pytest.mark.vllm

VOCAB = ["<unk>", "<s>", "</s>", "a", "b", "ab", *(f"t{n}" for n in range(26))]


def write_gguf(file: Path, *, tied: bool) -> None:
    """Write a llama of two layers in Q8_0; its head is the embedding again if tied."""
    import gguf
    import numpy as np

    random = np.random.default_rng(0)
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_context_length(128)
    writer.add_embedding_length(64)
    writer.add_block_count(2)
    writer.add_feed_forward_length(96)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(VOCAB))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(VOCAB)
    writer.add_token_types([3, 3, 3, *([1] * 29)])
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_chat_template("{{ messages[0].content }}")

    def add(name: str, *shape: int, seed: int | None = None) -> None:
        source = random if seed is None else np.random.default_rng(seed)
        values = source.standard_normal(shape, dtype=np.float32)
        if len(shape) == 1:
            writer.add_tensor(name, values)
            return
        kind = gguf.GGMLQuantizationType.Q8_0
        writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)

    add("token_embd.weight", len(VOCAB), 64, seed=7)
    add("output.weight", len(VOCAB), 64, seed=7 if tied else 8)
    add("output_norm.weight", 64)
    for layer in range(2):
        for name, rows, columns in [
            ("attn_q", 64, 64),
            ("attn_k", 32, 64),
            ("attn_v", 32, 64),
            ("attn_output", 64, 64),
            ("ffn_gate", 96, 64),
            ("ffn_up", 96, 64),
            ("ffn_down", 64, 96),
        ]:
            add(f"blk.{layer}.{name}.weight", rows, columns)
        add(f"blk.{layer}.attn_norm.weight", 64)
        add(f"blk.{layer}.ffn_norm.weight", 64)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.mark.parametrize("tied", [True, False])
def test_gguf_becomes_bf16_safetensors_with_tokenizer_and_template(
    tmp_path: Path, tied: bool
) -> None:
    write_gguf(tmp_path / "m.gguf", tied=tied)
    config = write_config(tmp_path, {"m": {"source": {"gguf": "m.gguf"}}})

    pull(config, ["m"])

    files = resolve(config, "m")
    facts = read_facts(files.path)
    layer = 64 * 64 * 2 + 32 * 64 * 2 + 3 * 96 * 64 + 2 * 64
    assert facts.dtype == "BF16"
    assert facts.stored_bytes == 2 * (2 * layer + 64 + len(VOCAB) * 64 * (1 if tied else 2))
    assert (facts.shape.layers, facts.shape.vocab_size) == (
        (Layers("full", 2, kv_heads=2, key_dim=16, value_dim=16),),
        len(VOCAB),
    )
    assert json.loads((files.path / "config.json").read_text())["tie_word_embeddings"] is tied
    names = {file.name for file in files.manifest.files}
    assert {"chat_template.jinja", "tokenizer.json", "tokenizer_config.json"} <= names


def test_hastened_reader_reads_what_the_original_reads(tmp_path: Path) -> None:
    import gguf

    from localfusion.weights.convert import _reader_class, _row_mapper

    write_gguf(tmp_path / "m.gguf", tied=False)
    original = gguf.GGUFReader(tmp_path / "m.gguf")
    quick = _reader_class()(tmp_path / "m.gguf")  # type: ignore[call-arg]  # a gguf.GGUFReader

    def content(reader: object) -> dict[str, object]:
        fields = reader.fields  # type: ignore[attr-defined]  # a gguf.GGUFReader
        return {
            name: ([bytes(field.parts[i]) for i in field.data], field.types)
            for name, field in fields.items()
        }

    assert content(quick) == content(original)
    tensor = next(t for t in original.tensors if t.name == "token_embd.weight")
    slow = gguf.quants._apply_over_grouped_rows
    double = lambda rows: rows.astype("float32") * 2  # noqa: E731  two callers, one line
    shape = tensor.data.shape
    expected = slow(double, arr=tensor.data, otype="float32", oshape=shape)
    assert (
        _row_mapper(2)(double, arr=tensor.data, otype="float32", oshape=shape) == expected
    ).all()
