"""An engine's log: phases, last lines, limited size, full disks."""

import os
from pathlib import Path

import pytest

from localfusion.engines import logfile
from localfusion.engines.base import Phase
from localfusion.engines.logfile import MAX_LOG_BYTES, EngineLog, rotate


@pytest.mark.parametrize(
    ("line", "phase"),
    [
        ("Starting to load model /m...", ("loading", "")),
        ("Loading safetensors checkpoint shards:  50% Completed | 1/2", ("loading", "50%")),
        ("Model loading took 1.2 GiB memory and 0.5 seconds", ("sizing", "")),
        ("GPU KV cache size: 8,224 tokens", ("sizing", "8,224 tokens")),
        ("Capturing CUDA graphs (decode, FULL):  40%|####", ("graphs", "40%")),
        ("Starting vLLM server on unix:/run/a.sock", ("listening", "")),
    ],
)
def test_lines_of_vllm_tell_the_phase(tmp_path: Path, line: str, phase: tuple[Phase, str]) -> None:
    log = EngineLog(tmp_path / "a.log")
    os.close(log.open())
    log.file.write_text(f"INFO 11-23 [x.py:1] {line}\n")

    assert log.new_phase() == phase
    assert log.new_phase() is None


def test_new_file_is_read_from_its_beginning(tmp_path: Path) -> None:
    log = EngineLog(tmp_path / "a.log")
    os.close(log.open())
    log.file.write_text("Starting vLLM server on x\n" * 3)
    log.new_phase()

    os.close(log.open())
    log.file.write_text("Starting to load model\n")

    assert log.new_phase() == ("loading", "")


def test_missing_file_says_nothing(tmp_path: Path) -> None:
    log = EngineLog(tmp_path / "a.log")

    log.trim()

    assert log.new_phase() is None
    assert log.last_lines() == []


def test_large_file_is_moved_aside_while_the_engine_writes_on(tmp_path: Path) -> None:
    log = EngineLog(tmp_path / "a.log")
    engine = os.open(log.file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(engine, b"old\n")
    os.truncate(log.file, MAX_LOG_BYTES + 1)

    log.trim()
    os.write(engine, b"new\n")
    os.close(engine)

    assert log.file.read_text() == "new\n"
    aside = tmp_path / "a.log.1"
    assert (aside.stat().st_size, aside.read_bytes()[:4]) == (MAX_LOG_BYTES + 1, b"old\n")
    log.trim()
    assert log.file.read_text() == "new\n"


def test_large_file_that_cannot_be_copied_is_cut(tmp_path: Path) -> None:
    log = EngineLog(tmp_path / "a.log")
    log.file.touch()
    os.truncate(log.file, MAX_LOG_BYTES + 1)
    (tmp_path / "a.log.1").mkdir()
    (tmp_path / "a.log.2").mkdir()
    (tmp_path / "a.log.2" / "in the way").touch()

    log.trim()

    assert log.file.stat().st_size == 0


def test_no_file_is_begun_on_a_disk_without_room(tmp_path: Path) -> None:
    log = EngineLog(tmp_path / "a.log", room=1 << 60)

    engine = log.open()

    assert os.fstat(engine).st_rdev == os.stat(os.devnull).st_rdev
    assert not log.file.exists()
    os.close(engine)


def test_old_logs_are_kept_five_deep(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    for number in range(8):
        rotate(log)
        log.write_text(str(number))

    kept = [path.read_text() for path in sorted(tmp_path.iterdir())]
    assert kept == ["7", "6", "5", "4", "3"]
    assert len(kept) == logfile.KEPT_LOGS
