"""Models from a hub: the commit is resolved once, only safe files come, models.lock holds them."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from localfusion.config import Config
from localfusion.errors import WeightsError
from localfusion.weights import find_status, pull, remove, resolve
from tests.weights.hub_server import COMMIT, Hub, serving
from tests.weights.places import LLAMA, safetensors, write_config

OTHER = "f" * 40


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    weights = safetensors({"w": ("BF16", (8,), 16)})
    files = {
        "config.json": json.dumps(dict(LLAMA)).encode(),
        "tokenizer.json": b"{}",
        "README.md": b"hello",
        "model.safetensors": weights,
        "consolidated.safetensors": weights,
        "pytorch_model.bin": b"pickle",
        "modeling_x.py": b"evil",
        "original/config.json": b"{}",
    }
    with serving(Hub(files)) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_HUB_OFFLINE", "0")
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
        yield hub


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return write_config(tmp_path, {"m": {"source": {"hub": "org/model"}}})


def test_only_files_that_may_be_loaded_are_fetched(hub: Hub, config: Config) -> None:
    pull(config, ["m"])

    expected = ["README.md", "config.json", "model.safetensors", "tokenizer.json"]
    assert [file.name for file in resolve(config, "m").manifest.files] == expected
    assert sorted(hub.fetched) == expected
    assert hub.fetched[-1] == "model.safetensors"
    assert find_status(config, "m").revision == COMMIT


def test_lock_names_the_commit_and_every_digest(hub: Hub, config: Config) -> None:
    pull(config, ["m"])

    text = config.lock_file.read_text()
    entry = yaml.safe_load(text)["m"]
    assert text.startswith("# Written by `localfusion models pull`")
    assert (entry["hub"], entry["revision"], entry["commit"]) == ("org/model", "main", COMMIT)
    assert entry["files"]["model.safetensors"] == hub.digest("model.safetensors")


def test_later_pull_asks_for_the_locked_commit(hub: Hub, config: Config) -> None:
    pull(config, ["m"])
    remove(config, "m")

    pull(config, ["m"])

    assert hub.revisions[0] == "main"
    assert set(hub.revisions[1:]) == {COMMIT}


def test_locked_file_that_changed_is_refused(hub: Hub, config: Config) -> None:
    pull(config, ["m"])
    remove(config, "m")
    hub.files["tokenizer.json"] = b"[]"

    with pytest.raises(WeightsError, match=r"tokenizer\.json has SHA-256 .*models\.lock says"):
        pull(config, ["m"])

    assert find_status(config, "m").state == "partial"


def test_hub_that_moved_the_locked_commit_is_refused(hub: Hub, config: Config) -> None:
    pull(config, ["m"])
    remove(config, "m")
    hub.commit = OTHER

    with pytest.raises(WeightsError, match=f"gave {OTHER}"):
        pull(config, ["m"])


def test_model_on_disk_must_be_the_locked_one(hub: Hub, config: Config) -> None:
    pull(config, ["m"])
    config.lock_file.write_text(config.lock_file.read_text().replace(COMMIT, OTHER))

    with pytest.raises(WeightsError, match=r"models\.lock has written down"):
        resolve(config, "m")


def test_lost_lock_is_written_again_from_what_is_on_disk(hub: Hub, config: Config) -> None:
    pull(config, ["m"])
    written = config.lock_file.read_text()
    config.lock_file.unlink()

    pull(config, ["m"])

    assert config.lock_file.read_text() == written


def test_file_that_is_not_what_the_hub_announced_is_refused(hub: Hub, config: Config) -> None:
    hub.announced["model.safetensors"] = "0" * 64

    with pytest.raises(WeightsError, match=r"model\.safetensors has SHA-256 .* the hub says 000"):
        pull(config, ["m"])

    assert not config.lock_file.exists()
    hub.announced.clear()
    pull(config, ["m"])
    assert find_status(config, "m").state == "verified"


def test_model_with_code_is_refused_before_its_weights(hub: Hub, config: Config) -> None:
    hub.files["config.json"] = json.dumps({**LLAMA, "auto_map": {}}).encode()

    with pytest.raises(WeightsError, match=r"config\.json has auto_map"):
        pull(config, ["m"])

    assert "model.safetensors" not in hub.fetched


def test_repository_without_safetensors_is_refused(hub: Hub, config: Config) -> None:
    del hub.files["model.safetensors"], hub.files["consolidated.safetensors"]

    with pytest.raises(WeightsError, match="has no safetensors"):
        pull(config, ["m"])


def test_unknown_repository_is_named(hub: Hub, tmp_path: Path) -> None:
    config = write_config(tmp_path, {"m": {"source": {"hub": "org/none"}}})

    with pytest.raises(WeightsError, match="org/none at main: check the name"):
        pull(config, ["m"])


def test_disk_too_small_for_the_snapshot_is_refused(hub: Hub, config: Config) -> None:
    with pytest.raises(WeightsError, match="pulling m needs"):
        pull(config, ["m"], free_bytes=lambda _: 10)

    assert hub.fetched == []


def test_hub_out_of_reach_names_the_offline_way(
    hub: Hub, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    with pytest.raises(WeightsError, match="cannot reach the hub; on an offline machine use sour"):
        pull(config, ["m"])


@pytest.mark.parametrize("text", ["m: [", "m: {hub: x}", "- m", "m: 3"])
def test_damaged_lock_is_named(hub: Hub, config: Config, text: str) -> None:
    config.lock_file.write_text(text)

    with pytest.raises(WeightsError, match=r"models\.lock"):
        pull(config, ["m"])


def test_lock_that_is_no_file_is_named(hub: Hub, config: Config) -> None:
    config.lock_file.mkdir()

    with pytest.raises(WeightsError, match=r"models\.lock cannot be read"):
        pull(config, ["m"])
