"""What may lie in a model folder (threats.md T2, T3)."""

import json
from pathlib import Path

import pytest

from localfusion.errors import WeightsError
from localfusion.weights.allowed import check_folder
from tests.weights.places import LLAMA, write_model

CODE = [
    "pytorch_model.bin",
    "consolidated.00.pth",
    "model.pt",
    "modeling_x.py",
    "data.pkl",
    "model.gguf",
    "tokenizer.model.py",
    "vocab.bin",
    "merges.so",
    "LICENSE.py",
    "run.sh",
    "MODEL.BIN",
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_model(tmp_path / "m")


def test_files_of_a_model_are_listed_without_the_manifest(folder: Path) -> None:
    others = ["LICENSE", "README.md", "chat_template.jinja", "merges.txt", "tokenizer.model"]
    for name in [*others, "manifest.json"]:
        (folder / name).write_text("{}")

    names = check_folder(folder)

    assert names == sorted([*others, "config.json", "model.safetensors", "tokenizer.json"])


@pytest.mark.parametrize("name", CODE)
def test_file_that_could_be_code_is_refused_by_name(folder: Path, name: str) -> None:
    canary = folder.parent / "canary"
    (folder / name).write_text(f"open({str(canary)!r}, 'w')")

    with pytest.raises(WeightsError, match=name):
        check_folder(folder)

    assert not canary.exists()


def test_code_in_a_subfolder_is_refused(folder: Path) -> None:
    (folder / "original").mkdir()
    (folder / "original" / "weights.pth").write_bytes(b"")

    with pytest.raises(WeightsError, match=r"original/weights\.pth"):
        check_folder(folder)


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json", "processor_config.json"])
@pytest.mark.parametrize("depth", [0, 1, 5])
def test_auto_map_is_refused_anywhere(folder: Path, file: str, depth: int) -> None:
    value: object = {"auto_map": {"AutoModel": "modeling_x.X"}}
    for _ in range(depth):
        value = {"a": [value]}
    (folder / file).write_text(json.dumps({**LLAMA, "x": value}))

    with pytest.raises(WeightsError, match=rf"{file} has auto_map"):
        check_folder(folder)


def test_link_out_of_the_folder_is_refused(folder: Path) -> None:
    (folder.parent / "secret.txt").write_text("secret")
    (folder / "notes.txt").symlink_to(folder.parent / "secret.txt")

    with pytest.raises(WeightsError, match=r"notes\.txt is a link out"):
        check_folder(folder)


def test_linked_folder_outside_is_refused(folder: Path) -> None:
    (folder / "more").symlink_to(folder.parent)

    with pytest.raises(WeightsError, match="more is a link out"):
        check_folder(folder)


def test_link_inside_the_folder_is_fine(folder: Path) -> None:
    (folder / "copy.json").symlink_to("tokenizer.json")

    assert "copy.json" in check_folder(folder)


def test_config_nested_too_deeply_is_refused(folder: Path) -> None:
    (folder / "config.json").write_text("[" * 100_000)

    with pytest.raises(WeightsError, match=r"config\.json is no valid JSON"):
        check_folder(folder)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_folder_without_an_essential_file_is_refused(folder: Path, name: str) -> None:
    (folder / name).unlink()

    with pytest.raises(WeightsError, match=r"config\.json|safetensors"):
        check_folder(folder)


@pytest.mark.parametrize("shard", ["gone.safetensors", "../m/model.safetensors"])
def test_shard_that_is_not_there_is_refused(folder: Path, shard: str) -> None:
    index = {"weight_map": {"w": shard}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))

    with pytest.raises(WeightsError, match="which is not in"):
        check_folder(folder)
