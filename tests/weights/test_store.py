"""What was pulled stays what was pulled: every change is found before an engine starts."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from localfusion.config import Config
from localfusion.errors import ModelNotFoundError, WeightsError
from localfusion.weights import find_status, pull, remove, resolve, verify
from tests.weights.places import write_config, write_model


@pytest.fixture
def own(tmp_path: Path) -> Config:
    """A configuration whose model ``m`` is a folder of the user's own."""
    write_model(tmp_path / "mine")
    return write_config(tmp_path, {"m": {"source": {"path": "mine"}}})


def flip(folder: Path) -> None:
    """Change one byte and set the times back, as someone would who hides it."""
    file = folder / "model.safetensors"
    stat = file.stat()
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def add(folder: Path) -> None:
    (folder / "extra.txt").write_text("")


def drop(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


def grow(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{ }")


def add_code(folder: Path) -> None:
    (folder / "pytorch_model.bin").write_bytes(b"")


def add_template(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text("{% for %}")


def spoil_manifest(folder: Path) -> None:
    (folder / "manifest.json").write_text('{"format": 2}')


CHANGES = pytest.mark.parametrize(
    ("change", "named"),
    [
        (flip, "model.safetensors"),
        (add, "extra.txt"),
        (drop, "tokenizer.json"),
        (grow, "tokenizer.json"),
        (add_code, "pytorch_model.bin"),
        (add_template, "chat_template.jinja"),
        (spoil_manifest, "manifest.json"),
    ],
)


@CHANGES
def test_change_is_refused_and_a_pull_mends_it(
    gguf: Config, change: Callable[[Path], None], named: str
) -> None:
    pull(gguf, ["m"])
    change(resolve(gguf, "m").path)

    with pytest.raises(WeightsError, match=f"{named}.*run: localfusion models pull m"):
        resolve(gguf, "m")

    pull(gguf, ["m"])
    assert resolve(gguf, "m").manifest.model == "m"


def test_verify_reads_every_byte(gguf: Config) -> None:
    pull(gguf, ["m"])
    pieces: list[int] = []

    files = verify(gguf, "m", pieces.append)

    assert sum(pieces) == files.manifest.bytes == find_status(gguf, "m").bytes


def test_touched_file_is_read_again_and_accepted(gguf: Config) -> None:
    pull(gguf, ["m"])
    os.utime(resolve(gguf, "m").path / "model.safetensors")
    assert find_status(gguf, "m").state == "pulled"

    resolve(gguf, "m")

    assert find_status(gguf, "m").state == "verified"


def test_missing_model_names_the_command(gguf: Config) -> None:
    with pytest.raises(WeightsError, match="'m': they are missing; run: localfusion models pull m"):
        resolve(gguf, "m")


def test_unknown_model_is_refused_with_the_nearest_name(gguf: Config) -> None:
    with pytest.raises(ModelNotFoundError, match="no model 'mm'; did you mean 'm'"):
        resolve(gguf, "mm")


def test_model_of_another_engine_has_no_weights(tmp_path: Path) -> None:
    config = write_config(tmp_path, {"far": {"engine": "sim"}})

    with pytest.raises(WeightsError, match="nothing to pull"):
        pull(config, ["far"])

    assert find_status(config, "far").state == "none"


def test_manifest_lists_every_file_with_size_and_digest(gguf: Config) -> None:
    pull(gguf, ["m"])

    document = json.loads((resolve(gguf, "m").path / "manifest.json").read_text())

    assert [file["name"] for file in document["files"]] == [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    ]
    assert all(len(file["sha256"]) == 64 and file["size"] > 0 for file in document["files"])


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd"])
def test_manifest_that_names_files_outside_is_refused(gguf: Config, name: str) -> None:
    pull(gguf, ["m"])
    file = resolve(gguf, "m").path / "manifest.json"
    document = json.loads(file.read_text())
    document["files"].append({"name": name, "size": 1, "sha256": "0" * 64})
    file.write_text(json.dumps(document))

    with pytest.raises(WeightsError, match="is no manifest"):
        resolve(gguf, "m")


def test_same_files_have_the_same_digest(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_model(tmp_path / name)
    models = {name: {"source": {"path": name}} for name in ("a", "b")}
    config = write_config(tmp_path, models)

    digests = {resolve(config, name).manifest.digest for name in models}

    assert len(digests) == 1


def test_own_folder_is_recorded_at_first_use_and_nothing_is_written_into_it(
    own: Config, tmp_path: Path
) -> None:
    before = sorted((tmp_path / "mine").iterdir())

    files = resolve(own, "m")

    assert files.path == tmp_path / "mine"
    assert sorted((tmp_path / "mine").iterdir()) == before
    assert find_status(own, "m").state == "verified"


@pytest.mark.parametrize("change", [flip, add, drop, grow])
def test_own_folder_that_changed_is_refused_until_it_is_pulled_again(
    own: Config, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    resolve(own, "m")
    change(tmp_path / "mine")

    with pytest.raises(WeightsError, match="models pull m"):
        resolve(own, "m")

    pull(own, ["m"])
    assert resolve(own, "m").path == tmp_path / "mine"


def test_own_folder_with_code_is_refused(own: Config, tmp_path: Path) -> None:
    add_code(tmp_path / "mine")

    with pytest.raises(WeightsError, match=r"pytorch_model\.bin may not lie"):
        pull(own, ["m"])


def test_own_folder_is_never_deleted(own: Config, tmp_path: Path) -> None:
    resolve(own, "m")

    with pytest.raises(WeightsError, match="your own folder"):
        remove(own, "m")

    assert (tmp_path / "mine" / "model.safetensors").exists()


def test_removed_model_is_missing_and_its_bytes_are_free(gguf: Config, cache: Path) -> None:
    pull(gguf, ["m"])
    size = resolve(gguf, "m").manifest.bytes

    freed = remove(gguf, "m")

    assert freed >= size
    assert find_status(gguf, "m").state == "missing"
    assert not [path for path in cache.rglob("*") if path.is_file()]
    with pytest.raises(WeightsError, match="nothing of 'm'"):
        remove(gguf, "m")
