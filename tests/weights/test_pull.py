"""A pull as a whole: what it does, what it does not do twice, what stops it."""

import threading
from pathlib import Path

import pytest

from localfusion.config import Config
from localfusion.errors import WeightsError
from localfusion.weights import PullProgress, find_status, pull, resolve
from localfusion.weights.job import holding
from localfusion.weights.store import locate
from tests.weights.places import write_config


def conversions(tools: Path) -> list[str]:
    log = tools / "converted"
    return log.read_text().split() if log.exists() else []


def test_gguf_file_becomes_a_verified_model(gguf: Config, cache: Path) -> None:
    seen: list[PullProgress] = []

    pull(gguf, ["m"], listener=seen.append)

    assert find_status(gguf, "m").state == "verified"
    assert next(p.phase for p in seen) == "convert"
    assert [p.phase for p in seen][-1] == "done"
    folders = [path.name for path in (cache / "models").iterdir()]
    assert sorted(folders) == sorted([".stamps", resolve(gguf, "m").path.name])


def test_second_pull_does_nothing(gguf: Config, tools: Path) -> None:
    pull(gguf, ["m", "m"])
    seen: list[PullProgress] = []

    pull(gguf, ["m"], listener=seen.append)

    assert [(p.phase, p.detail) for p in seen] == [("done", "was there")]
    assert conversions(tools) == ["m.gguf"]


def test_several_models_are_pulled_together(tmp_path: Path, tools: Path) -> None:
    for name in "abc":
        (tmp_path / f"{name}.gguf").write_bytes(name.encode())
    models = {name: {"source": {"gguf": f"{name}.gguf"}} for name in "abc"}
    config = write_config(tmp_path, models, engine_python=str(tools / "python"))

    pull(config, "abc")

    assert {find_status(config, name).state for name in "abc"} == {"verified"}
    assert len({resolve(config, name).manifest.digest for name in "abc"}) == 3


def test_other_source_is_another_folder(gguf: Config, tmp_path: Path, tools: Path) -> None:
    pull(gguf, ["m"])
    (tmp_path / "n.gguf").write_bytes(b"other")
    changed = write_config(
        tmp_path, {"m": {"source": {"gguf": "n.gguf"}}}, engine_python=str(tools / "python")
    )

    assert find_status(changed, "m").state == "missing"
    pull(changed, ["m"])

    assert resolve(changed, "m").path != resolve(gguf, "m").path


def test_staging_folder_of_a_former_source_is_deleted(gguf: Config) -> None:
    staging = locate(gguf, "m").staging
    stale = staging.with_name(".partial-m-0123456789ab")
    other = staging.with_name(".partial-m-x-0123456789ab")
    for folder in (stale, other):
        folder.mkdir(parents=True)

    pull(gguf, ["m"])

    assert not stale.exists()
    assert other.exists()


@pytest.mark.parametrize(
    ("content", "named"),
    [(b"broken", "converting 'm' failed: ValueError: no GGUF"), (None, "there is no file")],
)
def test_failure_leaves_no_model(
    gguf: Config, tmp_path: Path, content: bytes | None, named: str
) -> None:
    file = tmp_path / "m.gguf"
    file.unlink() if content is None else file.write_bytes(content)

    with pytest.raises(WeightsError, match=named):
        pull(gguf, ["m"])

    assert find_status(gguf, "m").state == "partial"
    file.write_bytes(b"whole")
    pull(gguf, ["m"])
    assert find_status(gguf, "m").state == "verified"


def test_gguf_with_another_digest_is_refused(tmp_path: Path, tools: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(b"tampered")
    source = {"source": {"gguf": "m.gguf", "sha256": "0" * 64}}
    config = write_config(tmp_path, {"m": source}, engine_python=str(tools / "python"))

    with pytest.raises(WeightsError, match=r"models\.yaml demands 0000"):
        pull(config, ["m"])

    assert conversions(tools) == []


def test_missing_packages_are_named_before_anything_is_fetched(gguf: Config, tools: Path) -> None:
    (tools / "lacks").touch()

    with pytest.raises(WeightsError, match=r"needs torch, gguf, which .*; run scripts/install"):
        pull(gguf, ["m"])

    assert find_status(gguf, "m").state == "missing"


def test_missing_interpreter_is_named(gguf: Config, tools: Path) -> None:
    (tools / "python").unlink()

    with pytest.raises(WeightsError, match=r"engine_python .* does not exist"):
        pull(gguf, ["m"])


def test_full_disk_is_refused_before_anything_is_written(gguf: Config, cache: Path) -> None:
    asked: list[Path] = []

    def nothing_free(folder: Path) -> int:
        asked.append(folder)
        return 10

    with pytest.raises(WeightsError, match=r"needs .* GB in .*models, .* are missing"):
        pull(gguf, ["m"], free_bytes=nothing_free)

    assert asked == [cache / "models"]
    assert not cache.exists()


def test_cache_that_cannot_be_written_is_one_clear_error(gguf: Config, cache: Path) -> None:
    cache.mkdir()
    (cache / "models").write_text("a file where a folder should be")

    with pytest.raises(WeightsError, match="pulling 'm': "):
        pull(gguf, ["m"], free_bytes=lambda _: 1 << 40)


def test_second_pull_of_a_model_waits_for_the_first(gguf: Config, tools: Path) -> None:
    waits = threading.Event()

    def listen(progress: PullProgress) -> None:
        if progress.phase == "wait":
            waits.set()

    second = threading.Thread(target=pull, args=(gguf, ["m"]), kwargs={"listener": listen})
    with holding(locate(gguf, "m").staging, wait=lambda: False):
        second.start()
        assert waits.wait(timeout=60)
        assert conversions(tools) == []
    second.join()

    assert find_status(gguf, "m").state == "verified"


def test_model_that_appeared_while_waiting_is_not_pulled_again(gguf: Config, tools: Path) -> None:
    waits, errors = threading.Event(), []

    def listen(progress: PullProgress) -> None:
        if progress.phase == "wait":
            waits.set()

    def run() -> None:
        try:
            pull(gguf, ["m"], listener=listen)
        except WeightsError as error:
            errors.append(error)

    place = locate(gguf, "m")
    threads = [threading.Thread(target=run) for _ in range(2)]
    with holding(place.staging, wait=lambda: False):
        for thread in threads:
            thread.start()
        assert waits.wait(timeout=60)
    for thread in threads:
        thread.join()

    assert not errors
    assert conversions(tools) == ["m.gguf"]


def test_stop_ends_a_running_conversion(gguf: Config, tools: Path) -> None:
    (tools / "hang").touch()
    stop = threading.Event()

    def listen(progress: PullProgress) -> None:
        if progress.phase == "convert":
            stop.set()

    with pytest.raises(WeightsError, match="was stopped") as caught:
        pull(gguf, ["m"], listener=listen, stop=stop)

    assert caught.value.code == "cancelled"
    assert find_status(gguf, "m").state == "partial"
